// One round of the survival experiment: a fresh world, a protected VM, connections of many kinds, a
// kill, and the account of every one of them; and if wanted protection again and a second kill.
#pragma once

#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "experiments/demo/display.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/survival/report.hpp"
#include "experiments/world/daemon_config.hpp"

namespace tandem::survival {

struct RoundOptions {
  world::DaemonOptions daemon;  ///< its VMs are set by the round
  std::filesystem::path kernel, initrd;
  std::string kernel_arguments;
  Setting setting;
  bool keep = false;  ///< keep the world's directory even if all is well
};

struct RoundOutcome {
  RoundResult result;
  std::string accelerator;     ///< what QEMU runs with, once it is known
  std::filesystem::path kept;  ///< the world's directory with all logs, if it was kept
};

/// Runs a round. An error means that it could not be played to its end; it names the directory with
/// the logs. What the system under test did wrong is in result.failures instead.
Result<RoundOutcome> run_round(const RoundOptions& options, const RoundPlan& plan,
                               demo::Display& display, demo::Interrupt& interrupt);

}  // namespace tandem::survival
