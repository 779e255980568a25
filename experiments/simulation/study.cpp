#include "experiments/simulation/study.hpp"

#include <algorithm>

namespace tandem::simulation {
namespace {

using controller::Mode;
using controller::Policy;

/// Until COLO mode that lasts, or that goes on to the end of the phase.
double back_within(std::span<const ModeChange> changes, double from_s, double to_s) {
  for (std::size_t i = 0; i < changes.size(); ++i) {
    if (changes[i].mode != Mode::colo) continue;
    const auto begin_s = std::max(changes[i].time_s, from_s);
    const auto end_s = i + 1 < changes.size() ? std::min(changes[i + 1].time_s, to_s) : to_s;
    if (end_s > begin_s && (end_s - begin_s >= colo_lasts_s || end_s == to_s)) {
      return begin_s - from_s;
    }
  }
  return to_s - from_s;
}

}  // namespace

double back_in_colo_s(std::span<const ModeChange> changes, double seconds) {
  double worst_s = 0;
  constexpr auto cycle_s = 2 * switching_phase_s;
  for (auto from_s = cycle_s; from_s + switching_phase_s <= seconds; from_s += cycle_s) {
    worst_s = std::max(worst_s, back_within(changes, from_s, from_s + switching_phase_s));
  }
  return worst_s;
}

const PolicyResult* ScenarioResult::find(Policy policy) const {
  const auto found = std::ranges::find(policies, policy, &PolicyResult::policy);
  return found == policies.end() ? nullptr : &*found;
}

PolicyResult study(const Scenario& scenario, Policy policy, const Setting& setting) {
  PolicyResult result{policy, {}, {}, {}};
  const auto seconds = setting.minutes * 60;
  const bool switching = scenario.workload.character.shape == Shape::switching;
  const bool fixed = policy == Policy::periodic || policy == Policy::colo;
  for (std::uint64_t seed = 1; seed <= setting.seeds; ++seed) {
    const controller::Controller controller(policy, setting.parameters);
    std::vector<ModeChange> changes{{0, controller.last().mode}};
    result.runs.push_back(run(scenario.workload, seed, seconds, controller,
                              [&](const Checkpoint& checkpoint, const auto&) {
                                if (checkpoint.begins == changes.back().mode) return;
                                changes.push_back({checkpoint.time_s, checkpoint.begins});
                              }));
    if (switching && !fixed) {
      result.back_s = std::max(result.back_s.value_or(0), back_in_colo_s(changes, seconds));
    }
  }
  result.means = means(result.runs);
  return result;
}

}  // namespace tandem::simulation
