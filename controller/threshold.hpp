// The paper's `threshold` policy: colo mode until checkpoints come too often, then a fixed stay in
// periodic mode.
#pragma once

#include "controller/observation.hpp"
#include "controller/parameters.hpp"
#include "controller/window.hpp"

namespace tandem::controller {

struct Threshold {
  double stay_left = 0;  ///< periodic checkpoints to come
  Window recent{};       ///< the latest cycles of the last stay in colo mode

  static constexpr Mode first_mode = Mode::colo;

  /// The mode of the next epoch, and why; `due_s` is left to the caller.
  Decision decide(const Observation& cycle, const Parameters& parameters);

  /// Keeps within parameters that have changed.
  void fit(const Parameters& parameters);

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("stay_left", self.stay_left);
    visit("recent", self.recent);
  }
};

}  // namespace tandem::controller
