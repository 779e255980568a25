// Cycles for tests of the controller, and a clock that goes with them.
#pragma once

#include <algorithm>
#include <string_view>

#include "controller/controller.hpp"

namespace tandem::controller {

/// One cycle; its time is the clock's.
struct Cycle {
  Mode mode;
  double pause_s, uptime_s;
};

/// A controller whose observations follow each other in time without a gap.
class Driver {
 public:
  explicit Driver(Policy policy, const Parameters& parameters = {})
      : controller(policy, parameters) {}

  Decision decide(const Cycle& cycle) {
    now_s_ += cycle.pause_s + cycle.uptime_s;
    return controller.decide({.time_s = now_s_,
                              .mode = cycle.mode,
                              .pause_s = cycle.pause_s,
                              .uptime_s = cycle.uptime_s});
  }
  Decision decide(const Cycle& cycle, int times) {
    Decision last = controller.last();
    for (int i = 0; i < times; ++i) last = decide(cycle);
    return last;
  }

  /// Negative if there is no such figure; no figure is ever below zero.
  [[nodiscard]] double figure(std::string_view name) const {
    const auto figures = controller.figures();
    const auto found = std::ranges::find(figures, name, &Figure::name);
    return found == figures.end() ? -1 : found->value;
  }

  Controller controller;

 private:
  double now_s_ = 0;
};

}  // namespace tandem::controller
