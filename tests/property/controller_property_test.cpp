// Properties of the controller, for every policy: whatever is observed, its numbers stay within
// their limits and its decisions can be carried out; and a decision depends on what was observed,
// and on nothing else.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <any>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "controller/controller.hpp"

namespace tandem::controller {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// 0 to 1, ends included.
double any_share() {
  return *rc::gen::inRange(0, 1025) / 1024.0;
}

/// In the parameter's range: an end of it, or more often small than great.
double any_value(const ParameterInfo& info) {
  const auto share = *rc::gen::element(0.0, 1.0, std::pow(any_share(), 8));
  const auto value = info.min + (info.max - info.min) * share;
  return info.whole ? std::floor(value) : value;
}

/// In their ranges, and without contradictions.
Parameters any_parameters() {
  Parameters parameters;
  for (const auto& info : parameter_table()) {
    if (*rc::gen::arbitrary<bool>()) parameters.*info.value = any_value(info);
  }
  const auto order = [](double& low, double& high) {
    if (low > high) std::swap(low, high);
  };
  order(parameters.hybrid_sigma_min, parameters.hybrid_sigma_max);
  order(parameters.hybrid_bound_min, parameters.hybrid_bound_max);
  order(parameters.hybrid_verdict, parameters.hybrid_measure);
  parameters.period_ms =
      std::max(parameters.period_ms, std::ceil(1000 / parameters.checkpoint_rate_max));
  parameters.threshold_interval_ms =
      std::min(parameters.threshold_interval_ms, parameters.colo_checkpoint_max_ms - 1);
  RC_PRE(!check(parameters));
  return parameters;
}

/// Modes change often.
Parameters any_lively_parameters() {
  auto parameters = any_parameters();
  parameters.window_s = *rc::gen::inRange(1, 20);
  parameters.threshold_average = *rc::gen::inRange(1, 10);
  parameters.threshold_stay = *rc::gen::inRange(1, 10);
  parameters.hybrid_stay = *rc::gen::inRange(0, 10);
  parameters.hybrid_measure = *rc::gen::inRange(5, 100);
  parameters.hybrid_verdict = *rc::gen::inRange(1, 5);
  parameters.hybrid_sigma_min = *rc::gen::inRange(0, 3);
  parameters.hybrid_sigma_max = *rc::gen::inRange(3, 10);
  RC_PRE(!check(parameters));
  return parameters;
}

Policy any_policy() {
  return *rc::gen::elementOf(std::vector<Policy>(std::begin(policies), std::end(policies)));
}

/// Anything that a double can be.
double any_double() {
  return *rc::gen::element(std::numeric_limits<double>::quiet_NaN(), infinity, -infinity, 0.0, -0.0,
                           5e-324, 1e-300, 1e-9, -1e-9, 0.25, -1.0, 1.0, 10.0, 1e6, 1e9, 1e300,
                           -1e300, std::numeric_limits<double>::max(), any_share());
}

Observation any_observation() {
  return {.time_s = any_double(),
          .mode = *rc::gen::element(Mode::periodic, Mode::colo),
          .pause_s = any_double(),
          .uptime_s = any_double(),
          .bytes = *rc::gen::arbitrary<std::uint64_t>(),
          .mismatches = *rc::gen::arbitrary<std::uint64_t>()};
}

/// A pair that does what it is told. Times are multiples of 1/1024 s: sums are exact.
class Pair {
 public:
  Observation cycle(Decision decision) {
    Observation cycle{.mode = decision.mode};
    const bool differs = decision.mode == Mode::colo && *rc::gen::inRange(0, 4) != 0;
    const auto due = std::ceil(decision.due_s * 1024);
    const auto ran = differs ? std::min(due, *rc::gen::inRange(1, 2048) * 1.0) : due;
    cycle.uptime_s = ran / 1024;
    cycle.pause_s = *rc::gen::inRange(1, differs ? 200 : 20) / 1024.0;
    cycle.mismatches = differs ? 1 : 0;
    cycle.bytes = *rc::gen::inRange<std::uint64_t>(0, 1 << 28);
    now_s_ += cycle.pause_s + cycle.uptime_s;
    cycle.time_s = now_s_;
    return cycle;
  }

 private:
  double now_s_ = 0;
};

/// What a pair may show, mixed with what nothing ever should.
Observation next_observation(Pair& pair, const Controller& controller) {
  return *rc::gen::inRange(0, 10) == 0 ? any_observation() : pair.cycle(controller.last());
}

void assert_finite(double value, std::string_view name) {
  if (!std::isfinite(value)) RC_FAIL(std::string(name) + " is not finite");
}
void assert_finite(const Window& window, std::string_view name) {
  RC_ASSERT(window.size() <= Window::cycles_max);
  assert_finite(window.downtime_ratio(), name);
  assert_finite(window.checkpoints_per_second(), name);
  assert_finite(window.average_uptime(), name);
}
void assert_finite(const auto&, std::string_view) {}

void assert_within(double value, double low, double high, std::string_view name) {
  if (!(value >= low && value <= high)) {
    RC_FAIL(std::string(name) + " is " + std::to_string(value) + ", outside of " +
            std::to_string(low) + " to " + std::to_string(high));
  }
}

void assert_right(const Controller& controller) {
  const auto& p = controller.parameters();
  const auto& last = controller.last();
  // 60 s: the longest period that can be set.
  assert_within(last.due_s, 1 / p.checkpoint_rate_max,
                last.mode == Mode::colo ? p.colo_checkpoint_max_ms / 1e3 : 60, "due_s");
  if (controller.policy() == Policy::periodic) RC_ASSERT(last.mode == Mode::periodic);
  if (controller.policy() == Policy::colo) RC_ASSERT(last.mode == Mode::colo);
  RC_ASSERT(std::set<std::string_view>({"periodic", "measuring", "colo"})
                .contains(controller.state_name()));
  assert_finite(controller.window(), "the window");
  std::set<std::string_view> names;
  for (const auto& figure : controller.figures()) {
    assert_finite(figure.value, figure.name);
    RC_ASSERT(names.insert(figure.name).second);
  }
  std::visit(
      [](const auto& state) {
        state.fields(state,
                     [](std::string_view name, const auto& field) { assert_finite(field, name); });
      },
      controller.state());
  if (const auto* hybrid = std::get_if<Hybrid>(&controller.state())) {
    assert_within(hybrid->bound, p.hybrid_bound_min, p.hybrid_bound_max, "the bound");
    assert_within(hybrid->sigma, p.hybrid_sigma_min, p.hybrid_sigma_max, "sigma");
    const bool is_stay = hybrid->state == Hybrid::State::periodic;
    const auto stay = p.hybrid_stay + hybrid->sigma + hybrid->bound;
    assert_within(hybrid->b, 0, is_stay ? stay : 1e5, "b");
  }
  if (const auto* threshold = std::get_if<Threshold>(&controller.state())) {
    assert_within(threshold->stay_left, 0, p.threshold_stay, "stay_left");
    RC_ASSERT(threshold->recent.size() <= Window::cycles_max);
  }
}

/// What is to be known of a controller from outside.
void assert_same(const Controller& a, const Controller& b) {
  RC_ASSERT(a.last() == b.last());
  RC_ASSERT(a.state_name() == b.state_name());
  const auto left = a.figures(), right = b.figures();
  RC_ASSERT(left.size() == right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    RC_ASSERT(left[i].name == right[i].name);
    RC_ASSERT(left[i].value == right[i].value);
  }
}

/// A controller that has seen something.
Controller any_controller(Pair& pair) {
  const bool is_lively = *rc::gen::arbitrary<bool>();
  Controller controller(any_policy(), is_lively ? any_lively_parameters() : any_parameters());
  const auto cycles = *rc::gen::inRange(0, 100);
  for (int i = 0; i < cycles; ++i) controller.decide(next_observation(pair, controller));
  return controller;
}

RC_GTEST_PROP(ControllerProperty, WhateverIsObservedTheNumbersStayWithinTheirLimits, ()) {
  Controller controller(any_policy(), any_parameters());
  assert_right(controller);
  const auto cycles = *rc::gen::inRange(1, 60);
  for (int i = 0; i < cycles; ++i) {
    const auto decision = controller.decide(any_observation());
    RC_ASSERT(decision == controller.last());
    assert_right(controller);
  }
}

RC_GTEST_PROP(ControllerProperty, ThroughAPairsLifeAndChangesTheNumbersStayWithinTheirLimits, ()) {
  Pair pair;
  Controller controller(any_policy(), any_parameters());
  const auto cycles = *rc::gen::inRange(1, 150);
  for (int i = 0; i < cycles; ++i) {
    if (*rc::gen::inRange(0, 20) == 0) {
      const auto policy = *rc::gen::arbitrary<bool>() ? controller.policy() : any_policy();
      controller.change(policy, any_parameters());
      RC_ASSERT(controller.policy() == policy);
    } else {
      controller.decide(next_observation(pair, controller));
    }
    assert_right(controller);
  }
}

RC_GTEST_PROP(ControllerProperty, ACopyDecidesAsTheOriginal, ()) {
  Pair pair;
  auto controller = any_controller(pair);
  auto copy = controller;
  for (int i = 0; i < 60; ++i) {
    const auto cycle = next_observation(pair, controller);
    RC_ASSERT(controller.decide(cycle) == copy.decide(cycle));
    assert_same(controller, copy);
  }
}

RC_GTEST_PROP(ControllerProperty, TwoThatSeeTheSameDecideTheSame, ()) {
  Pair pair;
  const auto policy = any_policy();
  const auto parameters = any_parameters();
  Controller one(policy, parameters);
  std::vector<Observation> seen;
  std::vector<Decision> decided;
  const auto cycles = *rc::gen::inRange(1, 150);
  for (int i = 0; i < cycles; ++i) {
    seen.push_back(next_observation(pair, one));
    decided.push_back(one.decide(seen.back()));
  }
  // Later, with another life in between.
  any_controller(pair);
  Controller other(policy, parameters);
  for (std::size_t i = 0; i < seen.size(); ++i) RC_ASSERT(other.decide(seen[i]) == decided[i]);
  assert_same(one, other);
}

/// Made of nothing but what fields() names.
Controller rebuilt(const Controller& controller) {
  std::vector<std::any> written;
  std::visit(
      [&](const auto& state) {
        state.fields(state, [&](std::string_view, const auto& field) { written.push_back(field); });
      },
      controller.state());
  Controller other(controller.policy(), controller.parameters());
  auto read = other.state();
  std::visit(
      [&](auto& state) {
        auto at = written.begin();
        state.fields(state, [&]<class Field>(std::string_view, Field& field) {
          field = std::any_cast<Field>(*at++);
        });
      },
      read);
  Window window;
  window.restore(controller.window().cycles());
  other.restore(std::move(read), std::move(window), controller.last());
  return other;
}

RC_GTEST_PROP(ControllerProperty, TheFieldsOfItsStateAreAllThereIsToIt, ()) {
  for (const auto policy : policies) {
    Pair pair;
    Controller controller(policy, any_lively_parameters());
    auto other = controller;
    for (int i = 0; i < 200; ++i) {
      const auto cycle = next_observation(pair, controller);
      RC_ASSERT(controller.decide(cycle) == other.decide(cycle));
      assert_same(controller, other);
      // Now and then anew, so that every state is begun from.
      if (*rc::gen::inRange(0, 10) == 0) other = rebuilt(controller);
    }
  }
}

RC_GTEST_PROP(ControllerProperty, TheOriginOfTimeIsOfNoMatter, ()) {
  Pair pair;
  const auto policy = any_policy();
  const auto parameters = any_parameters();
  Controller here(policy, parameters), there(policy, parameters);
  const auto shift_s = *rc::gen::inRange(-1'000'000, 1'000'000);
  for (int i = 0; i < 150; ++i) {
    auto cycle = pair.cycle(here.last());
    here.decide(cycle);
    cycle.time_s += shift_s;
    there.decide(cycle);
    assert_same(here, there);
  }
}

RC_GTEST_PROP(ControllerProperty, AWindowNeverExceedsItsLimits, ()) {
  Window window;
  const auto length_s = *rc::gen::element(1.0, 10.0, 600.0, infinity);
  const auto cycles = *rc::gen::inRange(0, 3000);
  double now_s = 0;
  for (int i = 0; i < cycles; ++i) {
    const Observation cycle{.time_s = now_s += any_share(), .uptime_s = any_share()};
    window.add(cycle, length_s);
    RC_ASSERT(window.size() <= Window::cycles_max);
    RC_ASSERT(window.cycles().back().time_s - window.cycles().front().time_s <= length_s);
  }
}

RC_GTEST_PROP(ControllerProperty, AStayInPeriodicModeIsNeverTooShortAndAlwaysEnds, ()) {
  Pair pair;
  const auto parameters = any_lively_parameters();
  const bool is_hybrid = *rc::gen::arbitrary<bool>();
  Controller controller(is_hybrid ? Policy::hybrid : Policy::threshold, parameters);
  // A stay of b checkpoints ends when b is not above 0 any more: a b of 0 is one checkpoint.
  const auto shortest = is_hybrid ? parameters.hybrid_stay : parameters.threshold_stay;
  const auto longest = is_hybrid ? std::floor(parameters.hybrid_stay + parameters.hybrid_sigma_max +
                                              parameters.hybrid_bound_max) +
                                       1
                                 : parameters.threshold_stay;
  int stay = 0;
  for (int i = 0; i < 300; ++i) {
    const auto cycle = pair.cycle(controller.last());
    const auto mode = controller.decide(cycle).mode;
    if (cycle.mode == Mode::periodic) ++stay;
    RC_ASSERT(stay <= longest);
    if (cycle.mode == Mode::periodic && mode == Mode::colo) {
      RC_ASSERT(stay >= shortest);
      stay = 0;
    }
  }
}

}  // namespace
}  // namespace tandem::controller
