#include "controller/adaptive.hpp"

#include <algorithm>
#include <cmath>

namespace tandem::controller {
namespace {

constexpr double newest = 0.2;  // weight of the latest of what is learned from stays and trials
// Periodic mode is judged by so many cycles at least.
constexpr double cycles_least = 4;
// What COLO mode costs is averaged over this many windows: its cycles are longer than periodic
// ones.
constexpr double long_windows = 10;
// Trials may use up what has been saved for them: before the first of them, as if it had been saved
// for ten minutes; and half of what COLO mode gains.
constexpr double saved_before_s = 600;
constexpr double gain_spent = 0.5;
// However little COLO mode has gained lately, it might gain this share of periodic mode's downtime.
constexpr double gain_least = 0.1;
// Sizes that vary by less than this share say little about what a pause would be without pages.
constexpr double size_doubt = 0.03;
constexpr double byte_mb = 1e-6;
constexpr double never_s = 1e6;

void learn(double& mean, double value, bool is_first) {
  mean = is_first ? value : mean + newest * (value - mean);
}

}  // namespace

Decision Adaptive::decide(const Observation& cycle, const Parameters& p) {
  const bool periodic = cycle.mode == Mode::periodic;
  // A pause between two modes says nothing about periodic mode: it may be one for both VMs to begin
  // together.
  if (last_uptime_s >= 0 && last_mode == Mode::colo) learn_colo(cycle.pause_s, p);
  if (last_uptime_s >= 0 && last_mode == Mode::periodic && periodic) learn_periodic(cycle, p);
  const auto decision = periodic ? after_periodic(cycle, p) : after_colo(cycle, p);
  last_mode = cycle.mode;
  last_uptime_s = cycle.uptime_s;
  return decision;
}

Decision Adaptive::after_periodic(const Observation& cycle, const Parameters& p) {
  if (unsettled > 0) settle(cycle.pause_s);
  const auto cycle_s = cycle.pause_s + cycle.uptime_s;
  left_s += cycle_s;
  since_s += cycle_s;
  since_cycles += 1;
  purse_s += p.adaptive_trial_share * cycle.pause_s;
  switch (state) {
    case State::colo:
    case State::trial:
      // The epoch was not run in the mode that was wanted, and says nothing about that.
      return {Mode::colo, 0, Reason::stay};
    case State::periodic:
      if (trial_is_due(p)) return enter_colo(State::trial, Reason::probe);
      break;
    case State::look:
      if (since_cycles < cycles_least) break;
      if (colo_pause_s < periodic_share() * (colo_pause_s + colo_uptime_s)) {
        return enter_colo(State::colo, Reason::stay);
      }
      state = State::periodic;
      return stay_periodic(Reason::costly, p);
  }
  return stay_periodic(cycles < 1 ? Reason::start : Reason::stay, p);
}

Decision Adaptive::after_colo(const Observation& cycle, const Parameters& p) {
  if (state == State::periodic || state == State::look) return stay_periodic(Reason::stay, p);
  const auto regret = [&](double pause_s_seen) {
    return pause_s_seen - periodic_share() * (pause_s_seen + cycle.uptime_s);
  };
  // What a stay begins with is the pause for a periodic epoch. COLO mode is not to blame for more
  // of it than its own pauses usually are.
  const bool first = stay_s <= 0;
  const bool known = colo_cycles > 0;
  regret_s += regret(first && known ? std::min(cycle.pause_s, colo_pause_s) : cycle.pause_s);
  stay_regret_s += regret(cycle.pause_s);
  stay_s += cycle.pause_s + cycle.uptime_s;
  look_purse_s += p.adaptive_trial_share * cycle.pause_s;
  // One pause of regret is what a good stay may have by chance.
  if (regret_s > colo_pause_s) return leave_colo(State::periodic, Reason::costly, p);
  if (regret_s <= 0) {
    // The change for the better came somewhere in the time since COLO mode was good last.
    if (state == State::trial) learn(bad_s, left_s / 2, bad_s <= 0);
    state = State::colo;
    regret_s = 0;
    best_gain_s = -stay_regret_s;
    best_s = stay_s;
  }
  // A look costs periodic pauses, and one to begin COLO mode with again.
  if (state == State::colo && look_purse_s > cycles_least * pause_s + colo_pause_s) {
    look_purse_s = 0;
    return leave_colo(State::look, Reason::probe, p);
  }
  return {Mode::colo, 0, Reason::stay};
}

void Adaptive::learn_periodic(const Observation& cycle, const Parameters& p) {
  const auto cycle_s = cycle.pause_s + cycle.uptime_s;
  const auto size_mb = static_cast<double>(cycle.bytes) / 1e6;
  const auto off_mb = size_mb - mb;
  cycles = std::exp(-cycle_s / p.window_s) * cycles + 1;
  pause_s += (cycle.pause_s - pause_s) / cycles;
  uptime_s += (last_uptime_s - uptime_s) / cycles;
  mb += off_mb / cycles;
  const auto keep_line = std::exp(-cycle_s / (long_windows * p.window_s));
  line_cycles = keep_line * line_cycles + 1;
  mb_mb = keep_line * mb_mb + off_mb * (size_mb - mb);
  mb_pause = keep_line * mb_pause + off_mb * (cycle.pause_s - pause_s);
}

void Adaptive::learn_colo(double seen_s, const Parameters& p) {
  const auto keep = std::exp(-(seen_s + last_uptime_s) / (long_windows * p.window_s));
  colo_cycles = keep * colo_cycles + 1;
  colo_pause_s += (seen_s - colo_pause_s) / colo_cycles;
  colo_uptime_s += (last_uptime_s - colo_uptime_s) / colo_cycles;
}

void Adaptive::settle(double last_pause_s) {
  unsettled = 0;
  // The pause that ended the stay is for what was written in COLO mode.
  stay_regret_s += std::max(0.0, last_pause_s - pause_s);
  if (stay_regret_s > 0) {
    learn(trial_cost_s, stay_regret_s, trial_cost_s <= 0);
  } else if (best_gain_s > 0) {
    learn(gain, best_gain_s / best_s, gain < 0);
  }
  purse_s -= stay_regret_s > 0 ? stay_regret_s : gain_spent * stay_regret_s;
}

Decision Adaptive::enter_colo(State as, Reason reason) {
  state = as;
  stay_regret_s = stay_s = best_gain_s = best_s = 0;
  // A trial begins at its end: any regret is too much, until the first good cycle.
  regret_s = as == State::trial ? colo_pause_s : 0;
  return {Mode::colo, 0, reason};
}

Decision Adaptive::leave_colo(State as, Reason reason, const Parameters& p) {
  if (state == State::colo) left_s = 0;
  state = as;
  unsettled = 1;
  since_s = since_cycles = 0;
  return stay_periodic(reason, p);
}

Decision Adaptive::stay_periodic(Reason reason, const Parameters& p) const {
  const auto fixed_s = fixed_pause_s();
  const auto growth = uptime_s > 0 ? (pause_s - fixed_s) / uptime_s : 0;
  const auto wanted_s = fixed_s / p.adaptive_fixed_share;
  const auto longest_s = (p.adaptive_latency_budget_ms / 1e3 - fixed_s) / (1 + growth);
  return {Mode::periodic, std::max(p.period_ms / 1e3, std::min(wanted_s, longest_s)), reason};
}

double Adaptive::periodic_share() const {
  return pause_s > 0 ? pause_s / (pause_s + uptime_s) : 0;
}

double Adaptive::fixed_pause_s() const {
  if (mb < byte_mb) return 0;
  // The line through pauses over sizes, where it meets no size at all. Before sizes have varied, it
  // is taken for one through the origin.
  const auto doubt = line_cycles * size_doubt * size_doubt * mb * mb;
  const auto per_mb = (mb_pause + doubt * pause_s / mb) / (mb_mb + doubt);
  return std::clamp(pause_s - mb * per_mb, 0.0, pause_s);
}

double Adaptive::trial_after_s() const {
  const auto share = periodic_share();
  const auto gained = std::max(gain < 0 ? share : gain, gain_least * share);
  const auto expected_s = std::max(bad_s, left_s / 2);
  // Trials cost trial_cost / w for each second, and what is gained too late is gained * w / 2 for
  // each change, one in `expected_s`: the sum is least here.
  return std::min(never_s, std::sqrt(2 * trial_cost_s * expected_s / std::max(gained, 1e-9)));
}

bool Adaptive::trial_is_due(const Parameters& p) const {
  if (cycles < 1 || since_cycles < cycles_least || periodic_share() <= 0) return false;
  const auto saved_s = purse_s + p.adaptive_trial_share * periodic_share() * saved_before_s;
  return since_s >= trial_after_s() && saved_s >= trial_cost_s;
}

void Adaptive::add_figures(std::vector<Figure>& figures) const {
  const auto periodic_ratio = pause_s > 0 ? pause_s / std::max(uptime_s, 1e-3 * pause_s) : 0;
  const bool waits = state == State::periodic;
  figures.push_back({"periodic_downtime_ratio", periodic_ratio});
  figures.push_back({"fixed_pause_ms", fixed_pause_s() * 1e3});
  figures.push_back({"regret_s", regret_s});
  figures.push_back({"trial_cost_s", trial_cost_s});
  figures.push_back({"wait_s", waits ? std::max(0.0, trial_after_s() - since_s) : 0});
}

std::string_view to_string(Adaptive::State state) noexcept {
  switch (state) {
    case Adaptive::State::colo:
      return "colo";
    case Adaptive::State::trial:
      return "measuring";
    case Adaptive::State::periodic:
    case Adaptive::State::look:
      return "periodic";
  }
  return "unknown";
}

}  // namespace tandem::controller
