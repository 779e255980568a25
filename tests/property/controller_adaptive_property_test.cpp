// The policy `adaptive` against VMs of every kind that do not change: it must find the better mode.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/unit/adaptive_fixture.hpp"

namespace tandem::controller {
namespace {

/// Each factor of ten is as likely.
double between(double least, double most) {
  const auto share = *rc::gen::inRange(0, 1001) / 1000.0;
  return least * std::pow(most / least, share);
}

Behaviour any_behaviour() {
  return {.fixed_pause_s = between(0.0001, 0.05),
          .mb_per_s = between(1, 1000),
          .colo_pause_s = between(0.0005, 2),
          .colo_uptime_s = between(0.001, 100)};
}

/// Before it knows, it has to see a few cycles of either mode.
double a_first_look_s(const Behaviour& behaviour) {
  const auto mb = behaviour.mb_per_s * Parameters().period_ms / 1e3;
  return 5 * (behaviour.colo_pause_s + behaviour.fixed_pause_s + pause_per_mb_s * mb);
}

RC_GTEST_PROP(AdaptiveProperty, IsNearlyAsGoodAsTheBetterModeWhereNothingChanges, ()) {
  constexpr double seconds = 1800;
  const auto behaviour = any_behaviour();
  const auto always = [&](double) { return behaviour; };
  Controller periodic(Policy::periodic, {}), colo(Policy::colo, {});
  const auto best_s =
      std::min(live(periodic, seconds, always).downtime(), live(colo, seconds, always).downtime()) *
      seconds;
  RC_ASSERT(live(seconds, always).downtime() * seconds <=
            1.02 * best_s + a_first_look_s(behaviour));
}

RC_GTEST_PROP(AdaptiveProperty, LosesLittleToPeriodicModeWhateverHappens, ()) {
  constexpr double seconds = 1800;
  const auto one = any_behaviour();
  auto other = one;
  other.colo_pause_s = between(0.0005, 2);
  other.colo_uptime_s = between(0.001, 100);
  const auto stretch_s = between(1, 600);
  const auto in_turn = [&](double time_s) {
    return std::fmod(time_s, 2 * stretch_s) < stretch_s ? one : other;
  };
  Controller periodic(Policy::periodic, {});
  const auto periodic_s = live(periodic, seconds, in_turn).downtime() * seconds;
  const auto first_s = std::max(a_first_look_s(one), a_first_look_s(other));
  RC_ASSERT(live(seconds, in_turn).downtime() * seconds <= 1.02 * periodic_s + first_s);
}

}  // namespace
}  // namespace tandem::controller
