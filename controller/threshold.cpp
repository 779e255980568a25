#include "controller/threshold.hpp"

#include <algorithm>
#include <limits>

namespace tandem::controller {

Decision Threshold::decide(const Observation& cycle, const Parameters& p) {
  const auto wanted = stay_left > 0 ? Mode::periodic : Mode::colo;
  // An epoch in the other mode says nothing: a pair's first one is periodic, whatever is wanted.
  if (cycle.mode != wanted) return {wanted, 0, unseen(wanted)};
  if (wanted == Mode::periodic) {
    stay_left -= 1;
    if (stay_left > 0) return {Mode::periodic, 0, Reason::stay};
    recent.clear();
    return {Mode::colo, 0, Reason::stay_over};
  }
  recent.add(cycle, std::numeric_limits<double>::infinity());
  recent.keep(static_cast<std::size_t>(p.threshold_average));
  const bool full = static_cast<double>(recent.size()) >= p.threshold_average;
  if (!full || recent.average_uptime() * 1e3 >= p.threshold_interval_ms) {
    return {Mode::colo, 0, Reason::stay};
  }
  stay_left = p.threshold_stay;
  return {Mode::periodic, 0, Reason::frequent};
}

void Threshold::fit(const Parameters& p) {
  stay_left = std::min(stay_left, p.threshold_stay);
}

}  // namespace tandem::controller
