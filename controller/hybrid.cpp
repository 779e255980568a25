#include "controller/hybrid.hpp"

#include <algorithm>

namespace tandem::controller {
namespace {

constexpr Decision stay_in(Mode mode) {
  return {mode, 0, Reason::stay};
}

}  // namespace

Hybrid::Hybrid(const Parameters& p)
    : sigma(std::clamp(p.hybrid_sigma_start, p.hybrid_sigma_min, p.hybrid_sigma_max)),
      bound(std::clamp(p.hybrid_bound_start, p.hybrid_bound_min, p.hybrid_bound_max)) {}

Decision Hybrid::decide(const Observation& cycle, const Parameters& p) {
  const auto wanted = state == State::periodic ? Mode::periodic : Mode::colo;
  // An epoch in the other mode says nothing: a pair's first one is periodic, whatever is wanted.
  if (cycle.mode != wanted) return {wanted, 0, unseen(wanted)};
  if (state != State::periodic) window.add(cycle, p.window_s);
  switch (state) {
    case State::periodic:
      return step_periodic();
    case State::measuring:
      regulate(cycle, p);
      return step_measuring(cycle, p);
    case State::colo:
      regulate(cycle, p);
      return step_colo(p);
  }
  return stay_in(wanted);
}

Decision Hybrid::step_periodic() {
  b -= 1;
  if (b > 0) return stay_in(Mode::periodic);
  state = State::measuring;
  b = 0;
  trial_s = 0;
  last_rate = -1;
  window.clear();
  return {Mode::colo, 0, Reason::stay_over};
}

Decision Hybrid::step_measuring(const Observation& cycle, const Parameters& p) {
  b += 1;
  trial_s += cycle.pause_s + cycle.uptime_s;
  if (b >= p.hybrid_verdict && window.downtime_ratio() > bound) {
    // Colo mode has turned out worse again: the next try comes later.
    sigma = std::clamp(sigma * p.hybrid_sigma_growth, p.hybrid_sigma_min, p.hybrid_sigma_max);
    return leave_colo(p);
  }
  if (b >= p.hybrid_measure || trial_s >= p.window_s) state = State::colo;
  return stay_in(Mode::colo);
}

Decision Hybrid::step_colo(const Parameters& p) {
  sigma = std::max(sigma - p.hybrid_sigma_decay, p.hybrid_sigma_min);
  if (window.downtime_ratio() > bound) return leave_colo(p);
  return stay_in(Mode::colo);
}

double Hybrid::stay(const Parameters& p) const {
  return p.hybrid_stay + sigma + bound;
}

Decision Hybrid::leave_colo(const Parameters& p) {
  state = State::periodic;
  b = stay(p);
  return {Mode::periodic, 0, Reason::over_bound};
}

void Hybrid::regulate(const Observation& cycle, const Parameters& p) {
  const auto rate = window.checkpoints_per_second();
  const auto change = last_rate < 0 ? 0 : rate - last_rate;
  last_rate = rate;
  const auto step_s = cycle.pause_s + cycle.uptime_s;
  // Velocity form: saturating the output keeps the integral from winding up. The set point does
  // not change between two steps, so its difference is zero.
  bound += p.hybrid_gain * -change +
           p.hybrid_gain * step_s / p.hybrid_integral_time_s * (p.hybrid_set_point - rate);
  bound = std::clamp(bound, p.hybrid_bound_min, p.hybrid_bound_max);
}

void Hybrid::fit(const Parameters& p) {
  sigma = std::clamp(sigma, p.hybrid_sigma_min, p.hybrid_sigma_max);
  bound = std::clamp(bound, p.hybrid_bound_min, p.hybrid_bound_max);
  if (state == State::periodic) b = std::min(b, stay(p));
}

std::string_view to_string(Hybrid::State state) noexcept {
  switch (state) {
    case Hybrid::State::periodic:
      return "periodic";
    case Hybrid::State::measuring:
      return "measuring";
    case Hybrid::State::colo:
      return "colo";
  }
  return "unknown";
}

}  // namespace tandem::controller
