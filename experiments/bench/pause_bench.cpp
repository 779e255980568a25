// tandem-bench: how long a protected VM stands still at each checkpoint, with tandemd between the
// two QEMUs and with stock QEMU's own COLO, in one run on one machine.

#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>
#include <thread>

#include "experiments/bench/pause_bench_pair.hpp"
#include "experiments/bench/pause_bench_stats.hpp"
#include "experiments/demo/display.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/world/installation.hpp"
#include "experiments/world/installation_options.hpp"
#include "experiments/world/sandbox.hpp"
#include "experiments/world/world.hpp"

namespace tandem::bench {
namespace {

using std::chrono::milliseconds;

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCannotRun = 2;
constexpr int kInterrupted = 130;

constexpr const char* kUnshaped = "unshaped";
// After each change the guest, the socket buffers and the link need a while to settle.
constexpr milliseconds kSettle{2000};
constexpr milliseconds kIdleTime{2500};
// The heartbeat shares the shaped link with the checkpoints; no failure is being looked for here.
constexpr milliseconds kHeartbeatTimeout{5000};
constexpr double kBusyOthers = 0.1;

struct Arguments {
  std::string json;
  double seconds = 4;
  unsigned repeats = 2;
  std::vector<long> sizes = {1, 8, 32, 64};
  std::vector<std::string> links = {kUnshaped, "1gbit"};
  world::Installation installation;
  bool enforce = false, keep = false, verbose = false;
};

std::string fixed(double value, int decimals) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(decimals) << value;
  return text.str();
}

std::array<double, 3> load_average() {
  std::array<double, 3> load{};
  if (::getloadavg(load.data(), static_cast<int>(load.size())) < 0) load.fill(0);
  return load;
}

class Benchmark {
 public:
  Benchmark(const Arguments& arguments, demo::Display& display, Bench& bench)
      : arguments_(arguments), display_(display), bench_(bench), load_before_(load_average()) {}

  Result<void> run() {
    if (auto done = set_up(); !done) return done;
    for (const auto& link : arguments_.links) {
      if (auto done = measure_link(link); !done) return done;
    }
    return {};
  }

  [[nodiscard]] bool sound() const {
    return std::ranges::all_of(rows_, [](const Row& row) { return problems(row).empty(); });
  }

  [[nodiscard]] std::vector<std::string> broken() const {
    std::vector<std::string> all;
    for (const auto& row : rows_) {
      for (auto& one : broken_promises(row)) all.push_back(std::move(one));
    }
    return all;
  }

  [[nodiscard]] nlohmann::json json() const {
    nlohmann::json rows = nlohmann::json::array();
    for (const auto& row : rows_) rows.push_back(to_json(row));
    nlohmann::json qemu;
    if (!pairs_.empty()) {
      const auto& probe = pairs_.begin()->second->qemu();
      qemu = {{"version", qmp::to_string(probe.version)},
              {"package", probe.version.package},
              {"accel", hypervisor::to_string(probe.accelerator)},
              {"shim", probe.shim}};
    }
    return {{"qemu", qemu},
            {"period_ms", bench_.period.count()},
            {"processors", std::thread::hardware_concurrency()},
            {"load_before", load_before_},
            {"load_after", load_average()},
            {"rows", rows}};
  }

  void print_table(std::ostream& out) const {
    if (rows_.empty()) return;
    out << table_head() << "\n";
    bool any_paced = false;
    for (const auto& row : rows_) {
      out << table_line(row) << "\n";
      any_paced = any_paced || row.paced;
    }
    out << "Pauses in ms. MiB: written by the guest per checkpoint, as QEMU counted it. SVM-: "
           "share "
           "of the time in which the secondary VM stood still.\n"
           "The ratios are to the better of the stock variants.\n";
    if (any_paced)
      out << "* The link cannot carry this in 250 ms: each checkpoint comes 250 ms after the VM "
             "has resumed, for stock and tandem alike.\n";
    for (const auto& row : rows_)
      for (const auto& problem : problems(row)) out << "FAILED: " << problem << "\n";
  }

 private:
  Result<void> set_up() {
    display_.heading("Set-up");
    std::vector<Pair::Kind> kinds = {Pair::Kind::stock_tcp};
    if (std::ranges::count(arguments_.links, kUnshaped) > 0)
      kinds.push_back(Pair::Kind::stock_unix);
    kinds.push_back(Pair::Kind::tandem);
    for (const auto kind : kinds) {
      auto pair = Pair::boot(bench_, kind);
      if (!pair) return pair.error();
      display_.step(std::string("Booting the guest of ") + (*pair)->name() + ".");
      pairs_[kind] = std::move(*pair);
    }
    for (const auto kind : kinds)
      if (auto ready = pairs_[kind]->wait_until_booted(); !ready) return ready;
    for (const auto kind : kinds) {
      if (auto done = pairs_[kind]->protect(); !done) return done;
      display_.good(std::string(pairs_[kind]->name()) + " is protected.");
    }
    const auto& qemu = pairs_[Pair::Kind::stock_tcp]->qemu();
    display_.step("QEMU " + qmp::to_string(qemu.version) + ", " +
                  std::string(hypervisor::to_string(qemu.accelerator)) +
                  (qemu.shim ? ", with the preloaded shim" : "") + ".");
    for (const auto kind : kinds) {
      auto samples = visit(*pairs_[kind], 0, false, kIdleTime);
      if (!samples) return samples.error();
      const auto idle = summarise(*samples, 0);
      idle_mib_[kind] = idle.dirty_mib;
      display_.step(std::string(pairs_[kind]->name()) + ", idle: pause " + fixed(idle.mean_ms, 1) +
                    " ms, " + fixed(idle.dirty_mib, 2) + " MiB per checkpoint.");
    }
    return {};
  }

  Result<void> measure_link(const std::string& link) {
    const bool unshaped = link == kUnshaped;
    const auto rate = link_rate(link);
    for (auto* host : {&bench_.world.alpha(), &bench_.world.beta()}) {
      if (!unshaped) {
        if (auto shaped = host->net().shape(world::Host::kReplicationLink, link); !shaped)
          return shaped;
      } else if (shaped_) {
        auto deleted =
            host->net().tc({"qdisc", "del", "dev", world::Host::kReplicationLink, "root"});
        if (!deleted) return deleted.error();
      }
    }
    shaped_ = !unshaped;
    for (const long mib : arguments_.sizes) {
      Row row;
      row.mib = static_cast<double>(mib);
      row.link = link;
      row.paced = needs_pacing(row.mib, rate, bench_.period);
      display_.heading(std::to_string(mib) + " MiB per checkpoint, link " + link +
                       (row.paced ? " (paced)" : ""));
      std::map<Pair::Kind, Samples> samples;
      // In turn, so that what changes on the machine meanwhile hits all of them.
      for (unsigned turn = 0; turn < arguments_.repeats; ++turn) {
        for (const auto& [kind, pair] : pairs_) {
          // A unix socket has no link that could be shaped.
          if (kind == Pair::Kind::stock_unix && !unshaped) continue;
          const milliseconds time(std::lround(arguments_.seconds * 1000));
          auto seen = visit(*pair, mib, row.paced, time);
          if (!seen) return seen.error();
          tell(*pair, summarise(*seen, idle_mib_[kind]));
          samples[kind].add(*seen);
        }
      }
      const auto summary = [&](Pair::Kind kind) {
        return summarise(samples[kind], idle_mib_[kind]);
      };
      row.stock_tcp = summary(Pair::Kind::stock_tcp);
      if (unshaped) row.stock_unix = summary(Pair::Kind::stock_unix);
      row.tandem = summary(Pair::Kind::tandem);
      for (const auto& problem : problems(row)) display_.bad("FAILED: " + problem);
      rows_.push_back(std::move(row));
    }
    return {};
  }

  Result<Samples> visit(Pair& pair, long mib, bool paced, milliseconds time) {
    if (auto working = pair.work(mib, paced); !working) return working.error();
    if (bench_.interrupt.wait_for(kSettle)) return interrupted();
    auto samples = pair.observe(time);
    if (!samples) return samples.error();
    if (auto resting = pair.rest(); !resting) return resting.error();
    return samples;
  }

  void tell(const Pair& pair, const Summary& summary) {
    display_.step(std::string(pair.name()) + ": pause mean " + fixed(summary.mean_ms, 1) +
                  " ms, p50 " + fixed(summary.p50_ms, 1) + " ms, p99 " + fixed(summary.p99_ms, 1) +
                  " ms of " + std::to_string(summary.checkpoints) + "; " +
                  fixed(summary.dirty_mib, 1) + " MiB per checkpoint");
    if (summary.others_cpu > kBusyOthers)
      display_.bad("Other programs kept " + fixed(summary.others_cpu, 2) +
                   " processors busy meanwhile: these numbers are not to be trusted.");
  }

  const Arguments& arguments_;
  demo::Display& display_;
  Bench& bench_;
  std::array<double, 3> load_before_;
  std::map<Pair::Kind, std::unique_ptr<Pair>> pairs_;
  std::map<Pair::Kind, double> idle_mib_;
  std::vector<Row> rows_;
  bool shaped_ = false;
};

Result<void> check(const Arguments& arguments) {
  for (const auto& link : arguments.links)
    if (link != kUnshaped && !link_rate(link))
      return Error{Errc::invalid_input, "\"" + link + "\" is not a link: expected " + kUnshaped +
                                            " or a rate such as 1gbit or 100mbit"};
  return arguments.installation.check();
}

int run(const Arguments& arguments) {
  const auto fail = [](const Error& error) {
    std::cerr << "tandem-bench: " << error.message << "\n";
    return kCannotRun;
  };
  demo::Interrupt interrupt;
  demo::Display display(stderr, arguments.verbose);
  world::WorldOptions options;
  options.keep = arguments.keep;
  auto world = world::World::make(options);
  if (!world) return fail(world.error());
  if (arguments.keep) display.step("Logs: " + world->directory().string());

  const auto& installation = arguments.installation;
  Bench bench{*world,
              interrupt,
              installation.daemon_options(),
              installation.kernel(),
              installation.initrd(),
              installation.kernel_arguments()};
  bench.daemon.heartbeat_timeout = kHeartbeatTimeout;
  if (auto ready = check(arguments); !ready) return fail(ready.error());

  Benchmark benchmark(arguments, display, bench);
  const auto done = benchmark.run();
  display.clear_status();
  int status = kPassed;
  if (!done) {
    status = interrupt.raised() ? kInterrupted : fail(done.error());
    world->keep();
    std::cerr << "tandem-bench: all logs are in " << world->directory().string() << "\n";
  } else if (!benchmark.sound()) {
    status = kFailed;
  }
  if (arguments.enforce && status == kPassed) {
    for (const auto& broken : benchmark.broken()) {
      std::cerr << "tandem-bench: " << broken << "\n";
      status = kFailed;
    }
  }
  benchmark.print_table(arguments.json == "-" ? std::cerr : std::cout);
  if (!arguments.json.empty()) {
    if (auto written = world::write_json(arguments.json, benchmark.json()); !written)
      status = fail(written.error());
  }
  return status;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  using namespace tandem;
  bench::Arguments arguments;
  CLI::App app{
      "Compares the pause of a protected VM at its checkpoints: stock QEMU to stock QEMU, and the\n"
      "same guest through tandem, in turn on this machine. Everything happens in private\n"
      "namespaces: nothing of this machine's network is touched. Ends with status 1 if a row is\n"
      "not sound, for example because the guest wrote another amount than it should have.\n",
      "tandem-bench"};
  app.add_option("--json", arguments.json, "write the results to this file, - for standard output");
  app.add_option("--seconds", arguments.seconds, "how long each pair is watched at a time")
      ->check(CLI::Range(1.0, 600.0))
      ->capture_default_str();
  app.add_option("--repeats", arguments.repeats, "how often each pair has its turn in a row")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  app.add_option("--sizes", arguments.sizes, "MiB that the guest writes per checkpoint")
      ->delimiter(',')
      ->check(CLI::Range(1, 128))
      ->capture_default_str();
  app.add_option("--links", arguments.links, "unshaped, or rates such as 1gbit, 100mbit")
      ->delimiter(',')
      ->capture_default_str();
  world::add_options(app, arguments.installation);
  app.add_flag("--enforce", arguments.enforce,
               "fail, too, if a ratio that SPECIFICATION.md promises is broken");
  app.add_flag("--keep", arguments.keep, "keep the logs");
  app.add_flag("--verbose", arguments.verbose, "tell more");
  CLI11_PARSE(app, argc, argv);
  arguments.installation.set_defaults();

  if (auto inside = world::enter_sandbox(); !inside) {
    std::cerr << "tandem-bench: " << inside.error().message << "\n";
    return bench::kCannotRun;
  }
  return bench::run(arguments);
}
