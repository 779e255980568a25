#include "controller/controller.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tandem::controller {
namespace {

constexpr double seconds_min = 1e-9;   // the clock's resolution; what claims less took no time
constexpr double seconds_max = 1e6;    // longer than any epoch; what claims more is wrong
constexpr double periodic_max_s = 60;  // the longest period that can be set

double sane_seconds(double value) {
  // Written so that what is not a number counts as no time.
  return value >= seconds_min && std::isfinite(value) ? std::min(value, seconds_max) : 0;
}

Observation sane(Observation cycle) {
  if (!std::isfinite(cycle.time_s)) cycle.time_s = 0;
  cycle.pause_s = sane_seconds(cycle.pause_s);
  cycle.uptime_s = sane_seconds(cycle.uptime_s);
  return cycle;
}

Controller::State begin(Policy policy, const Parameters& parameters) {
  switch (policy) {
    case Policy::periodic:
      return Fixed{Mode::periodic};
    case Policy::colo:
      return Fixed{Mode::colo};
    case Policy::threshold:
      return Threshold{};
    case Policy::hybrid:
      return Hybrid(parameters);
    case Policy::adaptive:
      return Adaptive{};
  }
  return Fixed{};
}

Decision first(const Fixed& fixed) {
  return {fixed.mode, 0, Reason::fixed};
}
template <class State>
Decision first(const State&) {
  return {State::first_mode, 0, Reason::start};
}

Decision decide_with(Fixed& fixed, const Observation&, const Parameters&) {
  return {fixed.mode, 0, Reason::fixed};
}
Decision decide_with(auto& policy, const Observation& cycle, const Parameters& parameters) {
  return policy.decide(cycle, parameters);
}

/// The state keeps within the limits of parameters that have changed under it.
void fit(auto&, const Parameters&) {}
void fit(Threshold& threshold, const Parameters& parameters) {
  threshold.fit(parameters);
}
void fit(Hybrid& hybrid, const Parameters& parameters) {
  hybrid.fit(parameters);
}

}  // namespace

std::string_view to_string(Policy policy) noexcept {
  switch (policy) {
    case Policy::periodic:
      return "periodic";
    case Policy::colo:
      return "colo";
    case Policy::threshold:
      return "threshold";
    case Policy::hybrid:
      return "hybrid";
    case Policy::adaptive:
      return "adaptive";
  }
  return "unknown";
}

std::optional<Policy> policy_from_string(std::string_view text) noexcept {
  for (const auto policy : policies) {
    if (to_string(policy) == text) return policy;
  }
  return std::nullopt;
}

Controller::Controller(Policy policy, const Parameters& parameters)
    : policy_(policy), parameters_(parameters), state_(begin(policy, parameters)) {
  last_ = limited(std::visit([](const auto& state) { return first(state); }, state_));
}

Decision Controller::limited(Decision decision) const {
  const auto colo_max_s = parameters_.colo_checkpoint_max_ms / 1e3;
  const bool is_colo = decision.mode == Mode::colo;
  // Written so that what is not a number counts as nothing said.
  if (!(decision.due_s > 0)) decision.due_s = is_colo ? colo_max_s : parameters_.period_ms / 1e3;
  const auto longest_s = is_colo ? colo_max_s : periodic_max_s;
  decision.due_s = std::clamp(decision.due_s, 1 / parameters_.checkpoint_rate_max, longest_s);
  return decision;
}

Decision Controller::decide(const Observation& observed) {
  const auto cycle = sane(observed);
  window_.add(cycle, parameters_.window_s);
  last_ = limited(
      std::visit([&](auto& policy) { return decide_with(policy, cycle, parameters_); }, state_));
  return last_;
}

void Controller::change(Policy policy, const Parameters& parameters) {
  if (policy != policy_) {
    auto window = std::move(window_);
    *this = Controller(policy, parameters);
    window_ = std::move(window);
    return;
  }
  parameters_ = parameters;
  std::visit([&](auto& present) { fit(present, parameters); }, state_);
  last_ = limited({last_.mode, 0, last_.reason});
}

std::vector<Figure> Controller::figures() const {
  std::vector<Figure> figures{
      {"downtime_ratio", window_.downtime_ratio()},
      {"checkpoints_per_second", window_.checkpoints_per_second()},
  };
  if (const auto* threshold = std::get_if<Threshold>(&state_)) {
    figures.push_back({"average_interval_ms", threshold->recent.average_uptime() * 1e3});
    figures.push_back({"stay_left", threshold->stay_left});
  } else if (const auto* hybrid = std::get_if<Hybrid>(&state_)) {
    figures.push_back({"colo_downtime_ratio", hybrid->window.downtime_ratio()});
    figures.push_back({"downtime_ratio_bound", hybrid->bound});
    figures.push_back({"b", hybrid->b});
    figures.push_back({"sigma", hybrid->sigma});
  } else if (const auto* adaptive = std::get_if<Adaptive>(&state_)) {
    adaptive->add_figures(figures);
  }
  return figures;
}

std::string_view Controller::state_name() const {
  if (const auto* hybrid = std::get_if<Hybrid>(&state_)) return to_string(hybrid->state);
  if (const auto* adaptive = std::get_if<Adaptive>(&state_)) return to_string(adaptive->state);
  return to_string(last_.mode);
}

void Controller::restore(State state, Window window, Decision last) {
  state_ = std::move(state);
  window_ = std::move(window);
  last_ = last;
}

}  // namespace tandem::controller
