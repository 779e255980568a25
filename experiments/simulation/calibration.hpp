// Costs and workloads whose static policies give the numbers of Table I: the columns *checkpoint*
// and *COLO*, and no other. docs/simulation.md says how the table is read.
#pragma once

#include <span>

#include "experiments/simulation/pair_model.hpp"
#include "experiments/simulation/paper.hpp"

namespace tandem::simulation {

/// Averages over the runs of several seeds.
struct Means {
  double downtime = 0, checkpoint_ms = 0, mb_per_s = 0;
  double output_wait_ms = 0, colo_share = 0, checkpoints_per_s = 0;
  double mode_changes = 0, mismatches = 0;
};
Means means(std::span<const Totals> runs);

inline constexpr std::uint64_t calibration_seeds = 10;
inline constexpr double calibration_s = 1800;
Means run_static(const Workload& workload, controller::Policy policy);

/// Sets what one row of the table says about:
///   both: the rate of writing, the copy's rate, the time to load, how often outputs differ;
///   steps: what two VMs that have run apart have to send and load anew;
///   others: the working set.
/// All else stays as it is in `draft`.
Workload calibrated(Workload draft, const PaperRow& row);

/// Sets how often outputs differ so that both modes cost the same downtime.
Workload balanced(Workload draft);

}  // namespace tandem::simulation
