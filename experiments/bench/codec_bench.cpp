// How fast one core parses a COLO stream: bytes of stream a second.
//
// usage: codec_bench [--stream=FILE] [Google Benchmark's options]
// FILE is a recording by record_stream.py. Without it the stream is generated in the shape of one:
// 8,700 pages and 58 KB of device state a checkpoint, four checkpoints.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "engine/colo/stream_parser.hpp"
#include "engine/colo/stream_writer.hpp"

namespace {

using namespace tandem::colo;

struct Counts final : Sink {
  std::size_t pages = 0;
  std::size_t checkpoints = 0;
  void on_page(std::string_view, std::uint64_t offset, std::span<const std::byte> page) override {
    ++pages;
    benchmark::DoNotOptimize(offset);
    benchmark::DoNotOptimize(page.data());
  }
  void on_checkpoint_end() override { ++checkpoints; }
};

/// The least that a relay must do with a page: put it somewhere of its own.
struct Copies final : Sink {
  std::vector<std::byte> store;
  std::size_t used = 0;
  void on_message(Message) override { used = 0; }
  void on_page(std::string_view, std::uint64_t, std::span<const std::byte> page) override {
    std::memcpy(store.data() + used, page.data(), page.size());
    used += page.size();
  }
};

std::vector<std::byte> generate() {
  std::vector<std::byte> stream;
  StreamWriter writer(stream);
  std::vector<std::byte> page(page_size);
  std::uint32_t state = 1;
  for (int checkpoint = 0; checkpoint < 4; ++checkpoint) {
    writer.message(Message::checkpoint_request);
    writer.message(Message::vmstate_send);
    writer.begin_section(2);
    for (std::uint64_t i = 0; i < 8'700; ++i) {
      for (std::byte& b : page) {
        state = state * 1664525 + 1013904223;
        b = static_cast<std::byte>(state >> 24);
      }
      writer.page("pc.ram", i * page_size, page);
    }
    writer.end_section();
    writer.end_sections();
    writer.device_state(std::vector<std::byte>(58'613));
  }
  return stream;
}

std::vector<std::byte> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  std::vector<std::byte> stream(static_cast<std::size_t>(file.tellg()));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(stream.data()), static_cast<std::streamsize>(stream.size()));
  if (!file) return {};
  return stream;
}

/// Parses the stream in windows of up to `window_bytes`; false if it does not parse to its end.
bool parse_all(std::span<const std::byte> stream, std::size_t window_bytes, Sink& sink) {
  StreamParser parser;
  std::size_t consumed = 0;
  while (consumed < stream.size()) {
    const auto rest = stream.subspan(consumed);
    const auto parsed = parser.parse(rest.first(std::min(window_bytes, rest.size())), sink);
    if (!parsed || *parsed == 0) return false;
    consumed += *parsed;
  }
  return parser.idle();
}

template <class Sink_>
void parse_benchmark(benchmark::State& state, const std::vector<std::byte>& stream,
                     std::size_t window_bytes, Sink_ sink) {
  for (auto _ : state) {
    if (!parse_all(stream, window_bytes, sink)) {
      state.SkipWithError("the stream does not parse to its end");
      return;
    }
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(stream.size()) *
                          static_cast<std::int64_t>(state.iterations()));
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view option = "--stream=";
  std::string path;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with(option)) {
      path = argv[i] + option.size();
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;

  const std::vector<std::byte> stream = path.empty() ? generate() : read_file(path);
  Counts counts;
  if (stream.empty() || !parse_all(stream, stream.size(), counts)) {
    std::fprintf(stderr, "codec_bench: '%s' is not a readable, whole COLO stream\n", path.c_str());
    return 1;
  }
  std::printf("%s: %zu bytes, %zu checkpoints, %zu pages\n",
              path.empty() ? "generated stream" : path.c_str(), stream.size(), counts.checkpoints,
              counts.pages);

  benchmark::RegisterBenchmark("parse/whole", [&](benchmark::State& state) {
    parse_benchmark(state, stream, stream.size(), Counts{});
  });
  benchmark::RegisterBenchmark("parse/windows_of_1_MiB", [&](benchmark::State& state) {
    parse_benchmark(state, stream, std::size_t{1} << 20, Counts{});
  });
  // Each window holds a few pages at most and mostly ends inside one.
  benchmark::RegisterBenchmark("parse/windows_of_16_KiB", [&](benchmark::State& state) {
    parse_benchmark(state, stream, std::size_t{16} << 10, Counts{});
  });
  benchmark::RegisterBenchmark("parse_and_copy_pages", [&](benchmark::State& state) {
    Copies copies;
    copies.store.resize(stream.size());
    parse_benchmark(state, stream, stream.size(), std::move(copies));
  });
  benchmark::RunSpecifiedBenchmarks();
}
