// tandem-demo: kills a host under a running service, and shows what the service's client notices.

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <random>

#include "experiments/demo/display.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/demo/round.hpp"
#include "experiments/world/installation.hpp"
#include "experiments/world/installation_options.hpp"
#include "experiments/world/sandbox.hpp"

namespace tandem::demo {
namespace {

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCannotRun = 2;
constexpr int kInterrupted = 130;

struct Arguments {
  std::size_t rounds = 1;
  std::optional<std::uint64_t> seed;
  std::string kill = "primary-host";
  std::string json;
  world::Installation installation;
  std::string policy = "periodic";
  std::string cabling = "direct";
  bool enforce = false;
  double rate = 100;
  bool keep = false, verbose = false;
};

std::string in_ms(const nlohmann::json& value) {
  return value.is_number() ? std::to_string(std::lround(value.get<double>())) + " ms" : "unknown";
}

void tell_summary(Display& display, const nlohmann::json& json) {
  const auto& summary = json["summary"];
  display.heading("Summary");
  const auto rounds = summary["rounds"].get<std::size_t>();
  display.step(std::to_string(rounds) + (rounds == 1 ? " round, " : " rounds, ") +
               std::to_string(summary["rounds_failed"].get<std::size_t>()) + " failed; " +
               std::to_string(summary["acked_writes"].get<std::uint64_t>()) +
               " writes acknowledged, " +
               std::to_string(summary["lost_acked_writes"].get<std::uint64_t>()) + " lost.");
  for (const auto& [kill, median] : summary["client_outage_ms_median_by_kill"].items())
    display.step("Median of the client's longest wait, " + kill + ": " + in_ms(median) + ".");
}

int run(const Arguments& arguments, std::optional<KillKind> kind) {
  Interrupt interrupt;
  Display display(arguments.json == "-" ? stderr : stdout, arguments.verbose);
  RoundOptions options;
  const auto& installation = arguments.installation;
  options.daemon = installation.daemon_options();
  options.kernel = installation.kernel();
  options.initrd = installation.initrd();
  options.kernel_arguments = installation.kernel_arguments();
  options.policy = arguments.policy;
  options.cabling =
      arguments.cabling == "direct" ? world::Cabling::direct : world::Cabling::switched;
  options.writes_per_second = arguments.rate;
  options.keep = arguments.keep;
  if (auto ready = installation.check(); !ready) {
    std::cerr << "tandem-demo: " << ready.error().message << "\n";
    return kCannotRun;
  }

  const std::uint64_t seed = arguments.seed ? *arguments.seed : std::random_device()() % 1000000;
  const auto plans = plan_rounds(seed, arguments.rounds, kind);
  std::vector<RoundResult> results;
  QemuFacts qemu;
  int status = kPassed;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto& plan = plans[i];
    const std::string replay =
        "--seed " + std::to_string(plan.seed) + " --kill " + std::string(to_string(plan.kind)) +
        (arguments.policy == "periodic" ? "" : " --policy " + arguments.policy) +
        (arguments.cabling == "direct" ? "" : " --cabling " + arguments.cabling);
    display.heading("Round " + std::to_string(i + 1) + " of " + std::to_string(plans.size()) +
                    ": " + std::string(to_string(plan.kind)) + " (again: tandem demo " + replay +
                    ")");
    auto outcome = run_round(options, plan, display, interrupt);
    if (!outcome) {
      display.clear_status();
      std::cerr << "tandem-demo: round " << i + 1 << " (" << replay
                << "): " << outcome.error().message << "\n";
      status = interrupt.raised() ? kInterrupted : kCannotRun;
      break;
    }
    qemu = outcome->qemu;
    // Which accelerator works here has been found out, which took a while; it stays so.
    if (!qemu.accel.empty()) options.daemon.accel = qemu.accel;
    if (!outcome->result.passed()) {
      status = kFailed;
      for (const auto& failure : outcome->result.failures)
        std::cerr << "tandem-demo: round " << i + 1 << " (" << replay << "): " << failure << "\n";
    }
    if (!outcome->kept.empty()) display.step("All logs are in " + outcome->kept.string() + ".");
    results.push_back(std::move(outcome->result));
  }

  const auto json = to_json(qemu, results);
  if (!arguments.json.empty()) {
    if (auto written = world::write_json(arguments.json, json); !written) {
      std::cerr << "tandem-demo: " << written.error().message << "\n";
      if (status == kPassed) status = kCannotRun;
    }
  }
  if (!results.empty()) tell_summary(display, json);
  if (arguments.enforce) {
    for (const auto& broken : broken_promises(results)) {
      std::cerr << "tandem-demo: " << broken << "\n";
      if (status == kPassed) status = kFailed;
    }
  }
  return status;
}

}  // namespace
}  // namespace tandem::demo

int main(int argc, char** argv) {
  using namespace tandem;
  demo::Arguments arguments;
  CLI::App app{
      "Kills a host, a QEMU or a daemon under a running redis, and shows what its client notices.\n"
      "Everything happens in private namespaces: nothing of this machine's network is touched.\n",
      "tandem demo"};
  app.add_option("--rounds", arguments.rounds, "how many times")->check(CLI::Range(1, 10000));
  app.add_option("--seed", arguments.seed,
                 "draws the instants of the kills (default: random, shown)");
  app.add_option("--kill", arguments.kill, "what is killed")
      ->check(CLI::IsMember(
          {"primary-qemu", "primary-host", "secondary-host", "primary-daemon", "mix"}))
      ->capture_default_str();
  app.add_option("--json", arguments.json, "write the results to this file, - for standard output");
  world::add_options(app, arguments.installation);
  app.add_option("--policy", arguments.policy,
                 "periodic: the secondary stands by; colo: both run, and their output is compared; "
                 "threshold, hybrid, adaptive: now this, now that")
      ->check(CLI::IsMember({"periodic", "colo", "threshold", "hybrid", "adaptive"}))
      ->capture_default_str();
  app.add_option("--cabling", arguments.cabling,
                 "direct: the cable between the hosts loses its carrier with a host; "
                 "switched: only silence tells")
      ->check(CLI::IsMember({"direct", "switched"}))
      ->capture_default_str();
  app.add_option("--rate", arguments.rate, "writes a second")
      ->check(CLI::Range(1.0, 100000.0))
      ->capture_default_str();
  app.add_flag("--enforce", arguments.enforce,
               "fail, too, if a time that SPECIFICATION.md promises is broken");
  app.add_flag("--keep", arguments.keep, "keep the logs even if all is well");
  app.add_flag("--verbose", arguments.verbose, "tell more");
  CLI11_PARSE(app, argc, argv);
  arguments.installation.set_defaults();

  if (auto inside = world::enter_sandbox(); !inside) {
    std::cerr << "tandem-demo: " << inside.error().message << "\n";
    return demo::kCannotRun;
  }
  return demo::run(arguments, demo::kill_kind_from_string(arguments.kill));
}
