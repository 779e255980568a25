// Properties of recordings: whatever a pair has seen, and however it was changed, what its log
// keeps is decided again as it was, by way of text.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <sstream>

#include "engine/control/replay.hpp"
#include "tests/unit/control_fixture.hpp"

namespace tandem::control {
namespace {

using controller::Policy;

Policy any_policy() {
  return *rc::gen::elementOf(
      std::vector<Policy>(std::begin(controller::policies), std::end(controller::policies)));
}

/// Some of them changed, none in contradiction to another.
controller::Parameters any_parameters() {
  controller::Parameters parameters;
  for (const auto& info : controller::parameter_table()) {
    if (*rc::gen::inRange(0, 4) != 0) continue;
    const auto share = std::pow(*rc::gen::inRange(0, 1025) / 1024.0, 6);
    auto changed = parameters;
    const auto value = info.min + (info.max - info.min) * share;
    changed.*info.value = info.whole ? std::floor(value) : value;
    if (!controller::check(changed)) parameters = changed;
  }
  return parameters;
}

/// Seconds, from none to many, and mostly with digits that have no end.
double any_time() {
  return std::pow(*rc::gen::inRange(0, 1000) / 999.0, 4) * *rc::gen::element(0.01, 1.0, 12.0);
}

RC_GTEST_PROP(ControlProperty, WhatALogKeepsIsDecidedAgainTheSame, ()) {
  const auto capacity = *rc::gen::inRange<std::size_t>(1, 200);
  LoggedPair pair(any_policy(), capacity, any_parameters());
  const auto steps = *rc::gen::inRange(0, 300);
  std::uint64_t records = 0;
  for (int i = 0; i < steps; ++i, ++records) {
    if (*rc::gen::inRange(0, 20) == 0) {
      pair.change(any_policy(), any_parameters());
    } else {
      pair.run_cycle(any_time(), any_time(), *rc::gen::arbitrary<std::uint64_t>());
    }
  }
  std::istringstream in(pair.recording());
  const auto summary = Replay::run(in);
  RC_ASSERT(summary.has_value());
  RC_ASSERT(summary->differences == 0u);
  RC_ASSERT(summary->decisions + summary->changes == std::min<std::uint64_t>(records, capacity));
  RC_ASSERT(summary->policy == pair.controller().policy());
}

}  // namespace
}  // namespace tandem::control
