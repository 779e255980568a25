#include "controller/threshold.hpp"

#include <limits>

namespace tandem::controller {

Decision Threshold::decide(const Observation& cycle, const Parameters& p) {
  if (cycle.mode == Mode::periodic) {
    stay_left -= 1;
    recent.clear();
    if (stay_left > 0) return {Mode::periodic, 0, Reason::stay};
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

}  // namespace tandem::controller
