// How fast one core compares what two VMs send: bytes and packets a second, both VMs' parsing and
// the copying of what leaves included; and what a remembered flow costs in memory.
//
// usage: compare_bench [--enforce] [Google Benchmark's options]
// --enforce: exit status 1 if a number falls below what docs/benchmarks.md promises.
//
// Each turn the one VM sends a batch, then the other one sends the same, then what left is taken.
// Batches are built once; between turns only their sequence numbers move on, which the time
// measured includes.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/big_endian.hpp"
#include "proxy/comparer.hpp"
#include "tests/unit/packet_builder.hpp"

namespace {

using namespace tandem::proxy;
using tandem::load_be;
using tandem::store_be;
using test::Bytes;

/// Frames of one VM whose sequence numbers can be moved on.
class Batch {
 public:
  void add(const Bytes& frame) {
    Packet packet;
    if (parse(frame, Direction::from_guest, packet) != Malformed::none) std::abort();
    if (packet.kind == Kind::tcp) numbers_.push_back(bytes_.size() + packet.transport + 4);
    bytes_.insert(bytes_.end(), frame.begin(), frame.end());
    ++frames_;
  }
  void advance(std::uint32_t sequence, std::uint32_t acknowledgement) {
    for (const std::size_t at : numbers_) {
      std::byte* number = bytes_.data() + at;
      store_be(number, load_be<std::uint32_t>(number) + sequence);
      store_be(number + 4, load_be<std::uint32_t>(number + 4) + acknowledgement);
    }
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] std::size_t frames() const { return frames_; }

 private:
  Bytes bytes_;
  std::vector<std::size_t> numbers_;
  std::size_t frames_ = 0;
};

enum class First { primary, secondary };

/// What both VMs send in one turn.
struct Load {
  Batch primary;
  Batch secondary;
  std::uint64_t payload = 0;   ///< bytes of the primary's
  std::uint32_t sequence = 0;  ///< by how much each flow moves on in a turn
  std::uint32_t acknowledgement = 0;
};

void run(benchmark::State& state, Load load, First first) {
  Comparer comparer;
  Comparer::Time now{std::chrono::hours(1)};
  Frames out;
  std::uint64_t left = 0;
  std::uint64_t turns = 0;
  const auto turn = [&] {
    now += std::chrono::milliseconds(1);
    if (first == First::primary) comparer.primary(load.primary.bytes(), now);
    comparer.secondary(load.secondary.bytes(), now);
    if (first == First::secondary) comparer.primary(load.primary.bytes(), now);
    comparer.take_released(out);
    left += out.count;
    load.primary.advance(load.sequence, load.acknowledgement);
    load.secondary.advance(load.sequence, load.acknowledgement);
    ++turns;
  };
  turn();
  left = turns = 0;
  for (auto _ : state) {
    turn();
    benchmark::ClobberMemory();
  }
  const CompareCounters& counters = comparer.counters();
  if (comparer.take_mismatch() || comparer.waiting_frames() != 0 ||
      left < turns * load.primary.frames()) {
    state.SkipWithError("not everything was released");
    return;
  }
  benchmark::DoNotOptimize(counters);
  const auto per_second = [&](std::uint64_t count) {
    return benchmark::Counter(static_cast<double>(count) * static_cast<double>(turns),
                              benchmark::Counter::kIsRate);
  };
  if (load.payload != 0) state.counters["bit/s"] = per_second(8 * load.payload);
  state.counters["pairs/s"] = per_second(load.primary.frames());
}

// ---- Bulk

/// One flow, `turn_bytes` a turn, cut into segments of these sizes.
Load bulk(std::uint32_t primary_segment, std::uint32_t secondary_segment,
          std::uint32_t turn_bytes) {
  const std::string payload = test::pattern(turn_bytes);
  Load load;
  const auto fill = [&](Batch& batch, std::uint32_t segment) {
    for (std::uint32_t at = 0; at < turn_bytes; at += segment) {
      const std::uint32_t size = std::min(segment, turn_bytes - at);
      const bool gso = size > 1448;
      batch.add(test::tcp({.seq = 1000 + at,
                           .options = test::timestamp_option(1, 2),
                           .payload = payload.substr(at, size),
                           .gso_size = static_cast<std::uint16_t>(gso ? 1448 : 0)},
                          {.checksum = test::Checksum::partial}));
    }
  };
  fill(load.primary, primary_segment);
  fill(load.secondary, secondary_segment);
  load.payload = turn_bytes;
  load.sequence = turn_bytes;
  return load;
}

// ---- Small packets

constexpr std::uint32_t small_flows = 64;

test::Tcp in_flow(test::Tcp segment, std::uint32_t flow) {
  segment.destination_port = static_cast<std::uint16_t>(1024 + flow % 50'000);
  return segment;
}
test::Link of_flow(std::uint32_t flow) {
  return {.destination = "10.0.0." + std::to_string(1 + flow / 50'000)};
}

Load small_segments(std::uint32_t flows) {
  Load load;
  for (std::uint32_t flow = 0; flow < flows; ++flow) {
    const Bytes frame = test::tcp(
        in_flow({.options = test::timestamp_option(1, 2), .payload = test::pattern(64)}, flow),
        of_flow(flow));
    load.primary.add(frame);
    load.secondary.add(frame);
  }
  load.payload = 64 * flows;
  load.sequence = 64;
  return load;
}

Load pure_acks() {
  Load load;
  for (std::uint32_t flow = 0; flow < small_flows; ++flow) {
    const Bytes frame = test::tcp(in_flow({.options = test::timestamp_option(1, 2)}, flow));
    load.primary.add(frame);
    load.secondary.add(frame);
  }
  load.acknowledgement = 1448;
  return load;
}

Load datagrams() {
  Load load;
  for (std::uint32_t flow = 0; flow < small_flows; ++flow) {
    const Bytes frame = test::udp({.destination_port = static_cast<std::uint16_t>(1024 + flow),
                                   .payload = test::pattern(64)});
    load.primary.add(frame);
    load.secondary.add(frame);
  }
  return load;
}

// ---- Many flows

constexpr std::uint32_t many_flows = 100'000;

std::size_t allocated_bytes() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

/// One packet a flow, round and round, the VMs in turn for each few of them.
void many(benchmark::State& state) {
  constexpr std::uint32_t group = 500;
  std::vector<Load> loads;
  for (std::uint32_t flow = 0; flow < many_flows; flow += group) {
    Load load;
    for (std::uint32_t i = flow; i < flow + group; ++i) {
      const Bytes frame = test::tcp(
          in_flow({.options = test::timestamp_option(1, 2), .payload = test::pattern(64)}, i),
          of_flow(i));
      load.primary.add(frame);
      load.secondary.add(frame);
    }
    loads.push_back(std::move(load));
  }
  Comparer comparer;
  Frames out;
  Comparer::Time now{std::chrono::hours(1)};
  std::uint64_t left = 0;
  const auto round = [&](Load& load) {
    comparer.primary(load.primary.bytes(), now);
    comparer.secondary(load.secondary.bytes(), now);
    comparer.take_released(out);
    left += out.count;
    load.primary.advance(64, 0);
    load.secondary.advance(64, 0);
  };
  // What the first flows need is not counted against the others.
  for (std::size_t i = 0; i < 2; ++i) round(loads[i]);
  const std::size_t before = allocated_bytes();
  for (std::size_t i = 2; i < loads.size(); ++i) round(loads[i]);
  const double per_flow =
      static_cast<double>(allocated_bytes() - before) / (many_flows - 2 * group);
  left = 0;
  std::size_t next = 0;
  for (auto _ : state) {
    round(loads[next++ % loads.size()]);
    benchmark::ClobberMemory();
  }
  if (comparer.flows() != many_flows || left != next * group) {
    state.SkipWithError("not everything was released");
    return;
  }
  state.counters["pairs/s"] =
      benchmark::Counter(static_cast<double>(next * group), benchmark::Counter::kIsRate);
  state.counters["bytes/flow"] = per_flow;
}

// ---- Promises

struct Promise {
  std::string_view benchmark;
  std::string_view counter;
  double least;
  double most;
};
constexpr double no_limit = 1e300;
constexpr Promise promises[] = {
    {"bulk/1448_and_1448/primary_first", "bit/s", 10e9, no_limit},
    {"bulk/1448_and_1448/secondary_first", "bit/s", 10e9, no_limit},
    {"bulk/1448_and_1448/3_MiB_behind", "bit/s", 10e9, no_limit},
    {"bulk/1448_and_1200", "bit/s", 10e9, no_limit},
    {"bulk/64K_and_64K", "bit/s", 10e9, no_limit},
    {"bulk/64K_and_1448", "bit/s", 10e9, no_limit},
    {"bulk/1448_and_64K", "bit/s", 10e9, no_limit},
    {"small/tcp/primary_first", "pairs/s", 1.5e6, no_limit},
    {"small/tcp/secondary_first", "pairs/s", 1.5e6, no_limit},
    {"small/tcp/one_by_one", "pairs/s", 1.5e6, no_limit},
    {"small/pure_acks", "pairs/s", 1.5e6, no_limit},
    {"small/udp", "pairs/s", 1.5e6, no_limit},
    {"flows/100000", "bytes/flow", 0, 160},
};

/// Prints as ever, and remembers the best of each counter.
class Judge : public benchmark::ConsoleReporter {
 public:
  Judge() : ConsoleReporter(OO_Tabular) {}
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.error_occurred) failed_ = true;
      if (run.run_type != Run::RT_Iteration) continue;
      for (const auto& [name, counter] : run.counters) {
        auto& best = best_[run.benchmark_name()];
        const auto [place, fresh] = best.try_emplace(name, counter.value);
        if (!fresh) place->second = std::max(place->second, counter.value);
      }
    }
    ConsoleReporter::ReportRuns(runs);
  }
  [[nodiscard]] bool kept() const {
    bool all = !failed_;
    for (const Promise& promise : promises) {
      const auto runs = best_.find(std::string(promise.benchmark));
      if (runs == best_.end()) continue;  // not asked for
      const double value = runs->second.at(std::string(promise.counter));
      if (value >= promise.least && value <= promise.most) continue;
      std::fprintf(stderr, "compare_bench: %s: %.4g %s, promised: %s %.4g\n", runs->first.c_str(),
                   value, std::string(promise.counter).c_str(),
                   value < promise.least ? "at least" : "at most",
                   value < promise.least ? promise.least : promise.most);
      all = false;
    }
    return all;
  }

 private:
  std::map<std::string, std::map<std::string, double>> best_;
  bool failed_ = false;
};

template <typename Make>
void add(const char* name, Make make, First first) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { run(state, make(), first); });
}

}  // namespace

int main(int argc, char** argv) {
  bool enforce = false;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--enforce") {
      enforce = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;

  constexpr std::uint32_t mss = 1448;
  constexpr std::uint32_t large = 45 * mss;  // what Linux hands over at once
  static_assert(large < 65'536);
  constexpr std::uint32_t mib = 1u << 20;
  struct {
    const char* name;
    std::uint32_t primary_segment;
    std::uint32_t secondary_segment;
    std::uint32_t turn_bytes = mib;
    First first = First::primary;
  } constexpr bulks[] = {
      {"bulk/1448_and_1448/primary_first", mss, mss},
      {"bulk/1448_and_1448/secondary_first", mss, mss, mib, First::secondary},
      // As far apart as the limits allow.
      {"bulk/1448_and_1448/3_MiB_behind", mss, mss, 3 * mib},
      {"bulk/1448_and_1200", mss, 1200},
      {"bulk/64K_and_64K", large, large},
      {"bulk/64K_and_1448", large, mss},
      {"bulk/1448_and_64K", mss, large},
  };
  for (const auto& b : bulks) {
    add(
        b.name, [=] { return bulk(b.primary_segment, b.secondary_segment, b.turn_bytes); },
        b.first);
  }
  const auto segments = [] { return small_segments(small_flows); };
  add("small/tcp/primary_first", segments, First::primary);
  add("small/tcp/secondary_first", segments, First::secondary);
  add(
      "small/tcp/one_by_one", [] { return small_segments(1); }, First::primary);
  add("small/pure_acks", pure_acks, First::primary);
  add("small/udp", datagrams, First::primary);
  benchmark::RegisterBenchmark("flows/100000", many);

  Judge judge;
  benchmark::RunSpecifiedBenchmarks(&judge);
  return enforce && !judge.kept() ? 1 : 0;
}
