// tandem-survival: connections of every kind through a failover, and the proof that each of them
// went on with every byte right.

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <random>

#include "experiments/survival/round.hpp"
#include "experiments/world/installation.hpp"
#include "experiments/world/installation_options.hpp"
#include "experiments/world/sandbox.hpp"

namespace tandem::survival {
namespace {

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCannotRun = 2;
constexpr int kInterrupted = 130;

struct Arguments {
  std::size_t rounds = 1;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> kinds;
  std::string kill = "mix", policy = "periodic", path = "plain";
  long delay_ms = 100;
  double loss = 0;
  bool second_failover = false, enforce = false, keep = false, verbose = false;
  std::string json;
  world::Installation installation;
};

// What may run beside each other. The guest's first connection is not, if there are others; and
// where every answer needs a checkpoint, little is "after the last".
std::vector<std::string> default_kinds(const Arguments& arguments) {
  std::vector<std::string> kinds{"before",  "after",     "handshake", "guest",
                                 "bulk-up", "bulk-down", "wrap"};
  if (arguments.path == "delay" && arguments.loss > 0) kinds.emplace_back("sack");
  return kinds;
}

Result<Setting> setting_of(const Arguments& arguments) {
  Setting setting;
  setting.policy = controller::policy_from_string(arguments.policy).value_or(Policy::periodic);
  setting.path.kind = path_kind_from_string(arguments.path).value_or(PathKind::plain);
  setting.path.round_trip = std::chrono::milliseconds(arguments.delay_ms);
  setting.path.loss = arguments.loss;
  setting.second_failover = arguments.second_failover;
  for (const auto& name : arguments.kinds) {
    const auto kind = kind_from_string(name);
    if (!kind) return Error{Errc::invalid_input, "there is no kind \"" + name + "\""};
    setting.kinds.push_back(*kind);
  }
  const auto has = [&](Kind kind) {
    return std::ranges::find(setting.kinds, kind) != setting.kinds.end();
  };
  for (const auto kind : setting.kinds)
    if (has(Kind::first) && kind != Kind::first && kind != Kind::after && kind != Kind::handshake)
      return Error{Errc::invalid_input,
                   "before the guest's first connection there can be no other: with the kind first "
                   "only after and handshake are possible, not " +
                       std::string(to_string(kind))};
  if (has(Kind::sack) && (setting.path.kind != PathKind::delay || setting.path.loss <= 0))
    return Error{Errc::invalid_input, "the kind sack needs --path delay and --loss"};
  return setting;
}

std::string replay_of(const Arguments& arguments, const RoundPlan& plan) {
  std::string text = "--seed " + std::to_string(plan.seed) + " --kill " +
                     std::string(demo::to_string(plan.blows.front().kind)) + " --policy " +
                     arguments.policy + " --path " + arguments.path;
  if (arguments.path == "delay")
    text += " --delay-ms " + std::to_string(arguments.delay_ms) + " --loss " +
            CLI::detail::to_string(arguments.loss);
  if (arguments.second_failover) text += " --second-failover";
  if (arguments.kinds != default_kinds(arguments))
    text += " --kinds " + CLI::detail::join(arguments.kinds, ",");
  return text;
}

std::string in_ms(const nlohmann::json& value) {
  return value.is_number() ? std::to_string(std::lround(value.get<double>())) + " ms" : "-";
}

void tell_summary(demo::Display& display, const nlohmann::json& json) {
  const auto& summary = json["summary"];
  display.heading("Summary");
  display.step(std::to_string(summary["rounds"].get<std::size_t>()) + " rounds, " +
               std::to_string(summary["rounds_failed"].get<std::size_t>()) + " failed; " +
               std::to_string(summary["survived"].get<std::size_t>()) + " of " +
               std::to_string(summary["connections"].get<std::size_t>()) +
               " connections survived; failover: median " + in_ms(summary["failover_ms_median"]) +
               ", longest " + in_ms(summary["failover_ms_max"]) + ".");
  for (const auto& [name, kind] : json["kinds"].items()) {
    std::string text = name + ": " + std::to_string(kind["survived"].get<std::size_t>()) + " of " +
                       std::to_string(kind["connections"].get<std::size_t>()) +
                       ", silence: median " + in_ms(kind["outage_ms"]["median"]) + ", longest " +
                       in_ms(kind["outage_ms"]["max"]);
    if (name.starts_with("bulk") || name == "sack")
      text += ", " + std::to_string(std::lround(kind["mbit_per_second"].get<double>())) + " Mbit/s";
    if (name == "after" || name == "first" || name == "guest")
      text += "; " + std::to_string(kind["after_last_checkpoint"].get<std::size_t>()) +
              " opened after the last checkpoint";
    if (name == "wrap")
      text += "; " + std::to_string(kind["wrapped"].get<std::size_t>()) + " passed 2^32";
    display.step(text + ".");
  }
}

int run(const Arguments& arguments, const Setting& setting, std::optional<demo::KillKind> kill) {
  demo::Interrupt interrupt;
  demo::Display display(arguments.json == "-" ? stderr : stdout, arguments.verbose);
  const auto& installation = arguments.installation;
  if (auto ready = installation.check(); !ready) {
    std::cerr << "tandem-survival: " << ready.error().message << "\n";
    return kCannotRun;
  }
  RoundOptions options;
  options.daemon = installation.daemon_options();
  options.kernel = installation.kernel();
  options.initrd = installation.initrd();
  options.kernel_arguments = installation.kernel_arguments();
  options.setting = setting;
  options.keep = arguments.keep;

  const std::uint64_t seed = arguments.seed ? *arguments.seed : std::random_device()() % 1000000;
  std::vector<RoundResult> results;
  int status = kPassed;
  for (std::size_t i = 0; i < arguments.rounds; ++i) {
    const auto plan = plan_round(seed + i, kill, setting.policy, setting.second_failover);
    const auto replay = replay_of(arguments, plan);
    display.heading("Round " + std::to_string(i + 1) + " of " + std::to_string(arguments.rounds) +
                    " (again: tandem-survival " + replay + ")");
    auto outcome = run_round(options, plan, display, interrupt);
    if (!outcome) {
      display.clear_status();
      std::cerr << "tandem-survival: round " << i + 1 << " (" << replay
                << "): " << outcome.error().message << "\n";
      status = interrupt.raised() ? kInterrupted : kCannotRun;
      break;
    }
    // Which accelerator works here has been found out, which took a while; it stays so.
    if (!outcome->accelerator.empty()) options.daemon.accel = outcome->accelerator;
    if (!outcome->result.passed()) {
      status = kFailed;
      for (const auto& failure : outcome->result.failures)
        std::cerr << "tandem-survival: round " << i + 1 << " (" << replay << "): " << failure
                  << "\n";
    }
    if (!outcome->kept.empty()) display.step("All logs are in " + outcome->kept.string() + ".");
    results.push_back(std::move(outcome->result));
  }

  const auto json = to_json(setting, results);
  if (!arguments.json.empty()) {
    if (auto written = world::write_json(arguments.json, json); !written) {
      std::cerr << "tandem-survival: " << written.error().message << "\n";
      if (status == kPassed) status = kCannotRun;
    }
  }
  if (!results.empty()) tell_summary(display, json);
  if (arguments.enforce) {
    for (const auto& broken : broken_promises(setting, results)) {
      std::cerr << "tandem-survival: " << broken << "\n";
      if (status == kPassed) status = kFailed;
    }
  }
  return status;
}

}  // namespace
}  // namespace tandem::survival

int main(int argc, char** argv) {
  using namespace tandem;
  survival::Arguments arguments;
  CLI::App app{
      "Keeps TCP connections of many kinds going while a host or a QEMU is killed, and checks "
      "that\n"
      "each goes on and that every byte is right. Everything happens in private namespaces:\n"
      "nothing of this machine's network is touched.\n",
      "tandem-survival"};
  app.add_option("--rounds", arguments.rounds, "how many times")->check(CLI::Range(1, 10000));
  app.add_option("--seed", arguments.seed, "of the first round (default: random, shown)");
  app.add_option("--kinds", arguments.kinds,
                 "of connections: before, after, handshake, guest, first, bulk-up, bulk-down, "
                 "random, wrap, sack (default: all that can be had at once)")
      ->delimiter(',');
  app.add_option("--policy", arguments.policy,
                 "periodic: the secondary stands by; colo: both run, and their output is compared; "
                 "threshold, hybrid, adaptive: now this, now that")
      ->check(CLI::IsMember({"periodic", "colo", "threshold", "hybrid", "adaptive"}))
      ->capture_default_str();
  app.add_option("--path", arguments.path, "from the client: plain, offload-off, delay")
      ->check(CLI::IsMember({"plain", "offload-off", "delay"}))
      ->capture_default_str();
  app.add_option("--delay-ms", arguments.delay_ms, "round trip on the path delay")
      ->check(CLI::Range(0, 10000))
      ->capture_default_str();
  app.add_option("--loss", arguments.loss, "share of the frames that the path delay loses")
      ->check(CLI::Range(0.0, 0.5))
      ->capture_default_str();
  app.add_option("--kill", arguments.kill, "what is killed; mix: host and QEMU of the primary")
      ->check(CLI::IsMember(
          {"primary-host", "primary-qemu", "secondary-host", "primary-daemon", "mix"}))
      ->capture_default_str();
  app.add_flag("--second-failover", arguments.second_failover,
               "revive the host, protect again, and kill once more");
  app.add_option("--json", arguments.json, "write the results to this file, - for standard output");
  world::add_options(app, arguments.installation);
  app.add_flag("--enforce", arguments.enforce,
               "fail, too, if a time that SPECIFICATION.md promises is broken, or if the rounds "
               "have not shown what they are there to show");
  app.add_flag("--keep", arguments.keep, "keep the logs even if all is well");
  app.add_flag("--verbose", arguments.verbose, "tell more");
  CLI11_PARSE(app, argc, argv);
  arguments.installation.set_defaults();
  if (arguments.kinds.empty()) arguments.kinds = survival::default_kinds(arguments);
  const auto setting = survival::setting_of(arguments);
  if (!setting) {
    std::cerr << "tandem-survival: " << setting.error().message << "\n";
    return survival::kCannotRun;
  }

  if (auto inside = world::enter_sandbox(); !inside) {
    std::cerr << "tandem-survival: " << inside.error().message << "\n";
    return survival::kCannotRun;
  }
  return survival::run(arguments, *setting, demo::kill_kind_from_string(arguments.kill));
}
