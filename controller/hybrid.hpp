// The paper's `hybrid` policy: an automaton that leaves colo mode when the downtime ratio exceeds a
// bound, and a saturated PI controller that moves the bound. docs/controller.md has the equations,
// and what the paper leaves open.
#pragma once

#include "controller/observation.hpp"
#include "controller/parameters.hpp"
#include "controller/window.hpp"

namespace tandem::controller {

struct Hybrid {
  enum class State {
    periodic,   ///< q1
    measuring,  ///< q2: colo mode, on trial
    colo,       ///< q3
  };

  State state = State::colo;
  double b = 0;        ///< q1: periodic checkpoints to come; q2: checkpoints of the trial so far
  double sigma = 0;    ///< checkpoints that a stay in q1 lasts beyond the shortest
  double bound = 0;    ///< ρ̄
  double trial_s = 0;  ///< q2: how long the trial has lasted
  /// The input of the PI controller's last step; negative before the first of a stay in colo mode.
  double last_rate = -1;
  Window window{};  ///< cycles of the present, or the last, stay in colo mode

  static constexpr Mode first_mode = Mode::colo;

  explicit Hybrid(const Parameters& parameters);

  /// The mode of the next epoch, and why; `due_s` is left to the caller.
  Decision decide(const Observation& cycle, const Parameters& parameters);

  /// Keeps within parameters that have changed.
  void fit(const Parameters& parameters);

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("state", self.state);
    visit("b", self.b);
    visit("sigma", self.sigma);
    visit("bound", self.bound);
    visit("trial_s", self.trial_s);
    visit("last_rate", self.last_rate);
    visit("window", self.window);
  }

 private:
  Decision step_periodic();
  Decision step_measuring(const Observation& cycle, const Parameters& parameters);
  Decision step_colo(const Parameters& parameters);
  /// Periodic checkpoints of a stay in q1 that begins now.
  [[nodiscard]] double stay(const Parameters& parameters) const;
  Decision leave_colo(const Parameters& parameters);
  void regulate(const Observation& cycle, const Parameters& parameters);
};

std::string_view to_string(Hybrid::State state) noexcept;

}  // namespace tandem::controller
