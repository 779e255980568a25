#include "experiments/simulation/calibration.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tandem::simulation {
namespace {

using controller::Policy;

// Far more than it takes; each round corrects what the one before has left.
constexpr int rounds_max = 60;
constexpr double close_enough = 2e-4;
constexpr double requests_mostly = 50;  // under way at most of the checkpoints of `steps`
constexpr double working_set_max_mb = 8192;

/// The factor between two numbers, so that no round goes astray.
double correction(double wanted, double measured) {
  return std::clamp(wanted / measured, 0.67, 1.5);
}

double pause_for(double downtime, double uptime_s) {
  return uptime_s * downtime / (1 - downtime);
}

bool is_close(const PaperCell& wanted, const Means& measured) {
  return std::abs(measured.downtime / wanted.downtime - 1) < close_enough &&
         std::abs(measured.mb_per_s / wanted.mb_per_s - 1) < close_enough;
}

}  // namespace

Means means(std::span<const Totals> runs) {
  Means sum;
  const auto count = static_cast<double>(runs.size());
  for (const auto& run : runs) {
    sum.downtime += run.downtime() / count;
    sum.checkpoint_ms += run.checkpoint_ms() / count;
    sum.mb_per_s += run.mb_per_s() / count;
    sum.output_wait_ms += run.output_wait_ms() / count;
    sum.colo_share += run.colo_share() / count;
    sum.checkpoints_per_s += run.checkpoints / run.time_s / count;
    sum.mode_changes += run.mode_changes / count;
    sum.mismatches += run.mismatches / count;
  }
  return sum;
}

Means run_static(const Workload& workload, Policy policy) {
  std::vector<Totals> runs;
  for (std::uint64_t seed = 1; seed <= calibration_seeds; ++seed) {
    runs.push_back(run(workload, seed, calibration_s, {policy, {}}));
  }
  return means(runs);
}

Workload calibrated(Workload workload, const PaperRow& row) {
  auto& c = workload.character;
  auto& k = workload.costs;
  const bool steps = c.shape == Shape::steps;
  const auto& periodic = row.periodic;
  const auto& colo = row.colo;
  for (int round = 0; round < rounds_max; ++round) {
    const auto p = run_static(workload, Policy::periodic);
    const auto q = run_static(workload, Policy::colo);
    if (is_close(periodic, p) && is_close(colo, q)) break;
    c.dirty_mb_s *= correction(periodic.mb_per_s, p.mb_per_s);
    k.copy_mb_s *= correction(pause_for(p.downtime, paper_period_s) - k.copy_fixed_s,
                              pause_for(periodic.downtime, paper_period_s) - k.copy_fixed_s);
    const auto early_s = (periodic.checkpoint_ms - p.checkpoint_ms) / 1e3;
    const auto late_s = (colo.checkpoint_ms - q.checkpoint_ms) / 1e3;
    if (steps) {
      k.load_s += early_s;
      k.diverged_s_per_request += 0.5 * late_s / requests_mostly;
      k.diverged_mb_per_request *= correction(colo.mb_per_s, q.mb_per_s);
      // Uptime is to pause as the downtime says; pauses are set above.
      const auto uptime_ms = [](double downtime, double pause_ms) {
        return pause_ms * (1 - downtime) / downtime;
      };
      c.mismatches_per_s *= correction(uptime_ms(q.downtime, q.checkpoint_ms),
                                       uptime_ms(colo.downtime, colo.checkpoint_ms));
    } else {
      // One time to load for both columns: what is left is shared.
      k.load_s += 0.5 * (early_s + late_s) / 2;
      c.mismatches_per_s *= correction(pause_for(colo.downtime, 1), pause_for(q.downtime, 1));
      c.working_set_mb *= std::pow(correction(colo.mb_per_s, q.mb_per_s), 2);
      c.working_set_mb = std::min(c.working_set_mb, working_set_max_mb);
    }
  }
  return workload;
}

Workload balanced(Workload workload) {
  const auto wanted = run_static(workload, Policy::periodic).downtime;
  double least = std::log(1e-3), most = std::log(1e3);
  constexpr int halvings = 24;
  for (int i = 0; i < halvings; ++i) {
    const auto middle = (least + most) / 2;
    workload.character.mismatches_per_s = std::exp(middle);
    (run_static(workload, Policy::colo).downtime < wanted ? least : most) = middle;
  }
  return workload;
}

}  // namespace tandem::simulation
