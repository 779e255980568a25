// Tandem's own policy: each mode's downtime as it was seen, and a trial of the other one when what
// it may gain is worth it. docs/controller.md has the reasoning.
#pragma once

#include <string_view>
#include <vector>

#include "controller/observation.hpp"
#include "controller/parameters.hpp"

namespace tandem::controller {

struct Adaptive {
  enum class State {
    colo,      ///< good so far
    trial,     ///< COLO mode that has to prove itself: the first cycle that is worse ends it
    periodic,  ///< COLO mode was worse
    look,      ///< COLO mode is good, but what periodic mode costs has to be seen again
  };
  State state = State::periodic;

  // A pause goes with the epoch before it.
  Mode last_mode = Mode::periodic;
  double last_uptime_s = -1;  ///< negative: nothing seen yet
  // Periodic mode: fading means over its cycles.
  double cycles = 0;  ///< how many, the older ones counting less; 0: never seen
  double pause_s = 0;
  double uptime_s = 0;
  double mb = 0;
  double line_cycles = 0;  ///< cycles of the next two, of which the older ones count less, too
  double mb_mb = 0;        ///< variance of the size of checkpoints, times the cycles
  double mb_pause = 0;     ///< its covariance with their pauses, likewise
  // COLO mode: likewise.
  double colo_cycles = 0;
  double colo_pause_s = 0;
  double colo_uptime_s = 0;

  // Regret: downtime beyond what periodic mode would have had in the same time.
  double regret_s = 0;       ///< of the present stay in COLO mode, since it was last at its best
  double stay_regret_s = 0;  ///< of the stay from its beginning; negative: a gain
  double stay_s = 0;         ///< how long the stay has lasted
  double best_gain_s = 0;    ///< the most that the stay had gained
  double best_s = 0;         ///< after how long
  double unsettled = 0;      ///< 1: a stay has ended, and its last pause is not known yet

  // What trials have taught.
  double trial_cost_s = 0;  ///< regret of one that fails
  double gain = -1;         ///< of a good stay, for each second; negative: not seen yet
  double bad_s = 0;         ///< how long COLO mode stays bad
  double purse_s = 0;       ///< downtime that trials may cost
  double look_purse_s = 0;  ///< downtime that a look at periodic mode may cost
  double left_s = 0;        ///< since the last good stay in COLO mode
  double since_s = 0;       ///< since COLO mode was left last
  double since_cycles = 0;  ///< likewise, periodic cycles

  static constexpr Mode first_mode = Mode::periodic;

  /// The next epoch's mode, and in periodic mode its length.
  Decision decide(const Observation& cycle, const Parameters& parameters);

  void add_figures(std::vector<Figure>& figures) const;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("state", self.state);
    visit("last_mode", self.last_mode);
    visit("last_uptime_s", self.last_uptime_s);
    visit("cycles", self.cycles);
    visit("pause_s", self.pause_s);
    visit("uptime_s", self.uptime_s);
    visit("mb", self.mb);
    visit("line_cycles", self.line_cycles);
    visit("mb_mb", self.mb_mb);
    visit("mb_pause", self.mb_pause);
    visit("colo_cycles", self.colo_cycles);
    visit("colo_pause_s", self.colo_pause_s);
    visit("colo_uptime_s", self.colo_uptime_s);
    visit("regret_s", self.regret_s);
    visit("stay_regret_s", self.stay_regret_s);
    visit("stay_s", self.stay_s);
    visit("best_gain_s", self.best_gain_s);
    visit("best_s", self.best_s);
    visit("unsettled", self.unsettled);
    visit("trial_cost_s", self.trial_cost_s);
    visit("gain", self.gain);
    visit("bad_s", self.bad_s);
    visit("purse_s", self.purse_s);
    visit("look_purse_s", self.look_purse_s);
    visit("left_s", self.left_s);
    visit("since_s", self.since_s);
    visit("since_cycles", self.since_cycles);
  }

 private:
  Decision after_periodic(const Observation& cycle, const Parameters& parameters);
  Decision after_colo(const Observation& cycle, const Parameters& parameters);
  void learn_periodic(const Observation& cycle, const Parameters& parameters);
  void learn_colo(double pause_s, const Parameters& parameters);
  void settle(double last_pause_s);
  Decision enter_colo(State as, Reason reason);
  Decision leave_colo(State as, Reason reason, const Parameters& parameters);
  Decision stay_periodic(Reason reason, const Parameters& parameters) const;
  /// Share of time in which periodic mode stands still.
  [[nodiscard]] double periodic_share() const;
  [[nodiscard]] double fixed_pause_s() const;
  /// How long after COLO mode was left it is worth a trial.
  [[nodiscard]] double trial_after_s() const;
  [[nodiscard]] bool trial_is_due(const Parameters& parameters) const;
};

std::string_view to_string(Adaptive::State state) noexcept;

}  // namespace tandem::controller
