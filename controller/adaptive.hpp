// Tandem's own policy: each mode's downtime as it was seen, and a trial of the other one when what
// it may gain is worth it.
#pragma once

#include <vector>

#include "controller/observation.hpp"
#include "controller/parameters.hpp"

namespace tandem::controller {

struct Adaptive {
  double regret_s = 0;         ///< downtime that colo mode has cost beyond what periodic would have
  double periodic_ratio = -1;  ///< downtime ratio of periodic mode; negative: not seen yet
  double wait_s = 0;           ///< until the next trial of colo mode
  double backoff_s = 2;

  static constexpr Mode first_mode = Mode::colo;

  /// The next epoch's mode and length.
  Decision decide(const Observation& cycle, const Parameters& parameters);

  void add_figures(std::vector<Figure>& figures) const;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("regret_s", self.regret_s);
    visit("periodic_ratio", self.periodic_ratio);
    visit("wait_s", self.wait_s);
    visit("backoff_s", self.backoff_s);
  }
};

}  // namespace tandem::controller
