// tandem-demo: kills a host under a running service, and shows what the service's client notices.

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <iostream>
#include <random>

#include "experiments/demo/display.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/demo/round.hpp"
#include "experiments/world/process.hpp"
#include "experiments/world/sandbox.hpp"

namespace tandem::demo {
namespace {

namespace fs = std::filesystem;

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCannotRun = 2;
constexpr int kInterrupted = 130;

struct Arguments {
  std::size_t rounds = 1;
  std::optional<std::uint64_t> seed;
  std::string kill = "primary-host";
  std::string json;
  fs::path guest_dir, tandemd, shim;
  fs::path qemu = "/usr/bin/qemu-system-x86_64";
  std::string policy = "periodic";
  std::string cabling = "direct";
  bool enforce = false;
  double rate = 100;
  bool keep = false, verbose = false;
};

fs::path first_existing(const std::vector<fs::path>& candidates) {
  std::error_code ignored;
  for (const auto& candidate : candidates)
    if (fs::exists(candidate, ignored)) return fs::weakly_canonical(candidate, ignored);
  return candidates.front();
}

// Where things lie relative to this program: in a build folder (build/NAME/bin) or installed.
void set_defaults(Arguments& arguments) {
  std::error_code ignored;
  const fs::path bin = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  if (arguments.tandemd.empty()) arguments.tandemd = bin / "tandemd";
  if (arguments.shim.empty()) {
    const char* name = "libtandem-tcg-shim.so";
    arguments.shim = first_existing({bin / name, bin.parent_path() / "lib" / name,
                                     bin.parent_path() / "lib/tandem" / name,
                                     bin.parent_path() / "lib/x86_64-linux-gnu/tandem" / name});
  }
  if (arguments.guest_dir.empty())
    arguments.guest_dir =
        first_existing({bin.parent_path().parent_path() / "guest", bin.parent_path() / "guest",
                        bin.parent_path() / "share/tandem/guest"});
}

Result<void> check_machine(const Arguments& arguments, const RoundOptions& options) {
  const auto require = [](const fs::path& file, const std::string& what,
                          const std::string& advice) -> Result<void> {
    if (::access(file.c_str(), R_OK) == 0) return {};
    return Error{Errc::not_found, "there is no " + what + " at " + file.string() + ": " + advice};
  };
  if (auto found = require(options.daemon.tandemd, "tandemd", "build it, or give --tandemd");
      !found)
    return found;
  if (auto found = require(options.kernel, "guest kernel",
                           "scripts/guest-image makes the guest, or give --guest-dir");
      !found)
    return found;
  if (auto found = require(options.initrd, "guest image",
                           "scripts/guest-image makes the guest, or give --guest-dir");
      !found)
    return found;
  if (auto found = require(arguments.qemu, "QEMU", "install qemu-system-x86, or give --qemu");
      !found)
    return found;
  if (!world::find_program("ip") || !world::find_program("tc"))
    return Error{Errc::not_found, "the programs ip and tc are missing: install iproute2"};
  const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  if (!tun)
    return with_context(
        "the VM's network needs /dev/net/tun (run as root, or let this user open it)",
        system_error("open", errno));
  return {};
}

Result<void> write_json(const std::string& where, const nlohmann::json& json) {
  if (where == "-") {
    std::cout << json.dump(2) << std::endl;
    return {};
  }
  std::ofstream file(where);
  file << json.dump(2) << "\n";
  if (!file.flush()) return Error{Errc::io, "cannot write " + where};
  return {};
}

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
  options.daemon.tandemd = arguments.tandemd;
  options.daemon.qemu = arguments.qemu;
  std::error_code ignored;
  if (fs::exists(arguments.shim, ignored)) options.daemon.tcg_shim = arguments.shim;
  options.kernel =
      first_existing({arguments.guest_dir / "vmlinux", arguments.guest_dir / "vmlinuz"});
  options.initrd = arguments.guest_dir / "redis.cpio.gz";
  // The image brings the arguments that make its kernel boot fast.
  std::ifstream cmdline(arguments.guest_dir / "cmdline.txt");
  if (std::string line; std::getline(cmdline, line)) options.kernel_arguments = line;
  options.policy = arguments.policy;
  options.cabling =
      arguments.cabling == "direct" ? world::Cabling::direct : world::Cabling::switched;
  options.writes_per_second = arguments.rate;
  options.keep = arguments.keep;
  if (auto ready = check_machine(arguments, options); !ready) {
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
    if (auto written = write_json(arguments.json, json); !written) {
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
  app.add_option("--guest-dir", arguments.guest_dir, "folder with vmlinux and redis.cpio.gz");
  app.add_option("--tandemd", arguments.tandemd, "the daemon to run");
  app.add_option("--shim", arguments.shim, "the library that mends QEMU's TCG before version 11");
  app.add_option("--qemu", arguments.qemu, "the QEMU to run")->capture_default_str();
  app.add_option("--policy", arguments.policy, "how checkpoints are chosen")->capture_default_str();
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
  demo::set_defaults(arguments);

  if (auto inside = world::enter_sandbox(); !inside) {
    std::cerr << "tandem-demo: " << inside.error().message << "\n";
    return demo::kCannotRun;
  }
  return demo::run(arguments, demo::kill_kind_from_string(arguments.kill));
}
