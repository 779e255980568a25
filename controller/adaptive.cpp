#include "controller/adaptive.hpp"

#include <algorithm>

namespace tandem::controller {

Decision Adaptive::decide(const Observation& cycle, const Parameters& p) {
  const auto cycle_s = cycle.pause_s + cycle.uptime_s;
  const Decision colo{Mode::colo, p.colo_checkpoint_max_ms / 1e3, Reason::stay};
  const Decision periodic{Mode::periodic, p.period_ms / 1e3, Reason::stay};
  if (cycle.mode == Mode::periodic) {
    const auto ratio = cycle.uptime_s > 0 ? cycle.pause_s / cycle.uptime_s : 0;
    periodic_ratio = periodic_ratio < 0 ? ratio : 0.9 * periodic_ratio + 0.1 * ratio;
    wait_s -= cycle_s;
    if (wait_s > 0) return periodic;
    regret_s = 0;
    return {Mode::colo, colo.due_s, Reason::probe};
  }
  const auto expected = std::max(periodic_ratio, 0.0) * cycle.uptime_s;
  regret_s = std::max(0.0, regret_s + cycle.pause_s - expected);
  if (regret_s == 0) backoff_s = 2;
  if (regret_s <= 2 * cycle.pause_s || cycle.mismatches == 0) return colo;
  wait_s = backoff_s;
  backoff_s = std::min(backoff_s * 2, 12.0);
  return {Mode::periodic, periodic.due_s, Reason::costly};
}

void Adaptive::add_figures(std::vector<Figure>& figures) const {
  figures.push_back({"periodic_downtime_ratio", std::max(periodic_ratio, 0.0)});
  figures.push_back({"regret_s", regret_s});
  figures.push_back({"wait_s", wait_s});
}

}  // namespace tandem::controller
