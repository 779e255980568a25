// One policy, watched on a real pair through the whole schedule.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/error.hpp"
#include "experiments/bench/policies_bench_output.hpp"
#include "experiments/demo/display.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/world/installation.hpp"
#include "experiments/world/world.hpp"

namespace tandem::bench {

struct WatchedRun {
  PolicyRun run;
  /// GET /v1/vms/NAME/observations, its pages as one: what the controller saw and decided.
  nlohmann::json recording;
  std::string qemu_version, accelerator;
};

/// Boots a VM in a fresh world, protects it with `run.policy` and lets its client work. An error
/// means that the VM could not be booted or that Ctrl-C ended it; what went wrong with the pair is
/// in `run.problem`. `run` says what is wanted, and comes back filled in.
Result<WatchedRun> watch_policy(PolicyRun run, const PoliciesSetting& setting,
                                const world::Installation& installation, world::World& world,
                                demo::Display& display, demo::Interrupt& interrupt);

}  // namespace tandem::bench
