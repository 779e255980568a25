// One round of the demonstration: a fresh world, a protected VM, a client, a kill, and the account
// of what the client was left with.
#pragma once

#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "experiments/demo/display.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/demo/kill_plan.hpp"
#include "experiments/demo/report.hpp"
#include "experiments/world/daemon_config.hpp"
#include "experiments/world/world.hpp"

namespace tandem::demo {

struct RoundOptions {
  world::DaemonOptions daemon;  ///< its VMs are set by the round
  std::filesystem::path kernel, initrd;
  std::string kernel_arguments = "console=ttyS0 quiet";
  std::string policy = "periodic";
  world::Cabling cabling = world::Cabling::direct;
  double writes_per_second = 100;
  bool keep = false;  ///< keep the world's directory even if all is well
};

struct RoundOutcome {
  RoundResult result;
  QemuFacts qemu;
  /// The world's directory with all logs, if it was kept: on demand, or because the round failed.
  std::filesystem::path kept;
};

/// Runs a round. An error means that it could not be played to its end (the machine lacks
/// something, a daemon did not start, the user interrupted); it names the directory with the logs.
/// What the system under test did wrong is in result.failures instead.
Result<RoundOutcome> run_round(const RoundOptions& options, const RoundPlan& plan, Display& display,
                               Interrupt& interrupt);

}  // namespace tandem::demo
