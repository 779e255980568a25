// tandem-bench-colo: how long a client waits for its replies when the VM runs unprotected, in
// periodic mode and in COLO mode, one after the other on the same connections.

#include <CLI/CLI.hpp>
#include <future>
#include <iostream>

#include "experiments/bench/bench_vm.hpp"
#include "experiments/bench/colo_bench_stats.hpp"
#include "experiments/demo/display.hpp"
#include "experiments/demo/failover_times.hpp"
#include "experiments/demo/host_view.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/survival/client.hpp"
#include "experiments/survival/path.hpp"
#include "experiments/world/installation.hpp"
#include "experiments/world/installation_options.hpp"
#include "experiments/world/sandbox.hpp"
#include "experiments/world/world.hpp"

namespace tandem::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCannotRun = 2;
constexpr int kInterrupted = 130;

constexpr std::uint16_t kRedisPort = 6379;
constexpr seconds kFinishTimeout{15};
// After a change, before anything counts.
constexpr milliseconds kSettle{2000};
// Of a phase's time, for the closed loop.
constexpr double kClosedShare = 0.2;
constexpr milliseconds kTick{20};

struct Arguments {
  std::string json;
  double seconds = 180, other_seconds = 60, rate = 100;
  world::Installation installation;
  bool enforce = false, keep = false, verbose = false;
};

class Benchmark {
 public:
  Benchmark(const Arguments& arguments, demo::Display& display, demo::Interrupt& interrupt,
            world::World& world)
      : arguments_(arguments),
        display_(display),
        interrupt_(interrupt),
        world_(world),
        vm_(arguments.installation, interrupt, world) {
    result_.rate = arguments.rate;
  }

  Result<void> run() {
    if (auto done = boot(); !done) return done;
    open_ =
        client_->open(survival::make_counter(
                          {.key = "open", .requests_per_second = arguments_.rate}, Clock::now()),
                      to_redis());
    if (auto done = watch("unprotected", arguments_.other_seconds); !done) return done;
    const nlohmann::json body{{"peer", "beta"}, {"policy", "periodic"}};
    if (auto done = vm_.post("/protect", body); !done) return done;
    if (auto done = watch("periodic", arguments_.other_seconds); !done) return done;
    // On the running pair, without setting it up again.
    if (auto done = vm_.post("/policy", {{"policy", "colo"}}); !done) return done;
    if (auto done = watch("colo", arguments_.seconds); !done) return done;
    return finish();
  }

  [[nodiscard]] const ColoBench& result() const noexcept { return result_; }

 private:
  static survival::Opening to_redis() {
    survival::Opening opening;
    opening.port = kRedisPort;
    return opening;
  }

  Result<void> boot() {
    display_.step("Boot the VM.");
    if (auto done = vm_.boot(); !done) return done;
    result_.qemu_version = vm_.qemu_version();
    result_.accelerator = vm_.accelerator();
    auto path = survival::Path::build(world_, {});
    if (!path) return path.error();
    path_ = std::move(*path);
    auto client =
        survival::Client::start(path_->client(), survival::Path::kClientAddress, BenchVm::kAddress);
    if (!client) return client.error();
    client_ = std::move(*client);
    return {};
  }

  [[nodiscard]] std::uint64_t replies() const {
    std::uint64_t sum = 0;
    for (const auto& one : client_->progress()) sum += one.replies;
    return sum;
  }

  Result<void> watch(const std::string& name, double time) {
    display_.step("Phase " + name + ".");
    if (interrupt_.wait_for(kSettle)) return interrupted();
    const auto before = vm_.look();
    const auto replies_before = replies();
    Window window;
    window.begin = Clock::now();
    window.closed_begin = window.begin + part_of(time * (1 - kClosedShare));
    window.end = window.begin + part_of(time);
    if (interrupt_.wait_until(window.closed_begin)) return interrupted();
    window.closed = client_->open(
        survival::make_counter({.key = name, .requests_per_second = 0}, Clock::now()), to_redis());
    if (interrupt_.wait_until(window.end)) return interrupted();
    const auto after = vm_.look();
    Phase phase;
    phase.name = name;
    phase.seconds = time;
    phase.replies = replies() - replies_before;
    phase.checkpoints = growth(before.vm, after.vm, "/checkpoints/last");
    phase.mismatch_checkpoints = growth(before.vm, after.vm, "/compare/mismatch_checkpoints");
    phase.mismatches = mismatch_growth(before.vm, after.vm);
    if (after.state() == "protected") phase.pause_mean_ms = pause_mean(before.vm, after.vm);
    result_.phases.push_back(std::move(phase));
    windows_.push_back(window);
    client_->finish(window.closed, kFinishTimeout);
    while (!client_->progress()[window.closed].ended)
      if (interrupt_.wait_for(kTick)) return interrupted();
    if (name != "unprotected" && after.state() != "protected")
      return Error{Errc::conflict, "the VM is not protected any more: alpha reports " +
                                       after.describe() + ", " +
                                       demo::text_at(after.vm, "/last_error")};
    return {};
  }

  static Clock::duration part_of(double time) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(time));
  }

  // The daemon tells the mean since protection began; that of this phase follows from two of them.
  static std::optional<double> pause_mean(const nlohmann::json& before,
                                          const nlohmann::json& after) {
    const auto sum = [](const nlohmann::json& vm) {
      return demo::number_at(vm, "/pause_ms/mean").value_or(0) *
             static_cast<double>(demo::count_at(vm, "/pause_ms/count").value_or(0));
    };
    const auto count = growth(before, after, "/pause_ms/count");
    if (count == 0) return std::nullopt;
    return (sum(after) - sum(before)) / static_cast<double>(count);
  }

  Result<void> finish() {
    auto finished = client_->finish_all(kFinishTimeout);
    while (finished.wait_for(kTick) != std::future_status::ready)
      if (interrupt_.raised()) return interrupted();
    const auto outcomes = finished.get();
    for (const auto& outcome : outcomes)
      if (!outcome.survived) result_.connection_problems.push_back(outcome.problem);
    for (std::size_t i = 0; i < windows_.size(); ++i) {
      const auto& window = windows_[i];
      auto& phase = result_.phases[i];
      phase.open = summarise(outcomes[open_].account.latencies, window.begin, window.closed_begin);
      phase.closed =
          summarise(outcomes[window.closed].account.latencies, window.closed_begin, window.end);
    }
    return {};
  }

  struct Window {
    survival::Time begin, closed_begin, end;
    std::size_t closed = 0;  // the closed loop's conversation
  };

  const Arguments& arguments_;
  demo::Display& display_;
  demo::Interrupt& interrupt_;
  world::World& world_;
  BenchVm vm_;
  std::unique_ptr<survival::Path> path_;
  std::unique_ptr<survival::Client> client_;
  std::size_t open_ = 0;
  std::vector<Window> windows_;
  ColoBench result_;
};

int run(const Arguments& arguments) {
  const auto fail = [](const Error& error) {
    std::cerr << "tandem-bench-colo: " << error.message << "\n";
    return kCannotRun;
  };
  demo::Interrupt interrupt;
  demo::Display display(stderr, arguments.verbose);
  if (auto ready = arguments.installation.check(); !ready) return fail(ready.error());
  world::WorldOptions options;
  options.keep = arguments.keep;
  auto world = world::World::make(options);
  if (!world) return fail(world.error());
  Benchmark benchmark(arguments, display, interrupt, *world);
  const auto done = benchmark.run();
  display.clear_status();
  if (!done) {
    if (interrupt.raised()) return kInterrupted;
    world->keep();
    std::cerr << "tandem-bench-colo: all logs are in " << world->directory().string() << "\n";
    return fail(done.error());
  }
  const auto& result = benchmark.result();
  (arguments.json == "-" ? std::cerr : std::cout) << to_text(result);
  if (!arguments.json.empty())
    if (auto written = world::write_json(arguments.json, to_json(result)); !written)
      return fail(written.error());
  int status = kPassed;
  for (const auto& problem : result.connection_problems) {
    std::cerr << "tandem-bench-colo: " << problem << "\n";
    status = kFailed;
  }
  if (arguments.enforce) {
    for (const auto& broken : broken_promises(result)) {
      std::cerr << "tandem-bench-colo: " << broken << "\n";
      status = kFailed;
    }
  }
  return status;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  using namespace tandem;
  bench::Arguments arguments;
  CLI::App app{
      "Measures how long a client waits for replies of a VM that runs unprotected, in periodic "
      "mode\n"
      "and in COLO mode, in turn on the same connections. Everything happens in private\n"
      "namespaces: nothing of this machine's network is touched. Ends with status 1 if a "
      "connection "
      "\nis lost or a reply is wrong.\n",
      "tandem-bench-colo"};
  app.add_option("--json", arguments.json, "write the results to this file, - for standard output");
  app.add_option("--seconds", arguments.seconds, "how long COLO mode is watched")
      ->check(CLI::Range(5.0, 86400.0))
      ->capture_default_str();
  app.add_option("--other-seconds", arguments.other_seconds, "how long each of the others is")
      ->check(CLI::Range(5.0, 86400.0))
      ->capture_default_str();
  app.add_option("--rate", arguments.rate, "requests a second of the open loop")
      ->check(CLI::Range(1.0, 10000.0))
      ->capture_default_str();
  world::add_options(app, arguments.installation);
  app.add_flag("--enforce", arguments.enforce,
               "fail, too, if a number that SPECIFICATION.md promises is broken");
  app.add_flag("--keep", arguments.keep, "keep the logs");
  app.add_flag("--verbose", arguments.verbose, "tell more");
  CLI11_PARSE(app, argc, argv);
  arguments.installation.set_defaults();
  if (auto inside = world::enter_sandbox(); !inside) {
    std::cerr << "tandem-bench-colo: " << inside.error().message << "\n";
    return bench::kCannotRun;
  }
  return bench::run(arguments);
}
