// A VM for tests of the policy `adaptive`: what it does follows from the decisions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "controller/controller.hpp"

namespace tandem::controller {

/// How a VM behaves at a moment.
struct Behaviour {
  double fixed_pause_s = 0.001;  ///< of a checkpoint that ends a periodic epoch
  double mb_per_s = 20;          ///< written in a second of uptime
  double colo_pause_s = 0.003;   ///< of a checkpoint that ends an epoch in COLO mode
  double colo_uptime_s = 1e9;    ///< until outputs differ
};
inline constexpr double pause_per_mb_s = 0.0002;
inline constexpr double never = 1e9;

struct Change {
  double time_s = 0;
  Decision to;
};

/// What happened to it.
struct Story {
  double time_s = 0, down_s = 0, colo_s = 0;
  std::vector<Change> changes;
  std::vector<double> periods_s;  ///< of the epochs in periodic mode

  [[nodiscard]] double downtime() const { return down_s / time_s; }
  [[nodiscard]] std::size_t trials() const {
    return static_cast<std::size_t>(std::ranges::count_if(changes, [](const Change& change) {
      return change.to.mode == Mode::colo && change.to.reason == Reason::probe;
    }));
  }
};

using BehaviourAt = std::function<Behaviour(double time_s)>;

/// Runs a VM under a controller.
inline Story live(Controller& controller, double seconds, const BehaviourAt& behaviour_at) {
  Story story;
  Observation cycle;
  auto decision = controller.last();
  while (story.time_s < seconds) {
    const auto behaviour = behaviour_at(story.time_s);
    const bool colo = decision.mode == Mode::colo;
    cycle.mode = decision.mode;
    cycle.uptime_s = colo ? std::min(decision.due_s, behaviour.colo_uptime_s) : decision.due_s;
    cycle.mismatches = colo && behaviour.colo_uptime_s < decision.due_s ? 1 : 0;
    story.time_s += cycle.uptime_s;
    cycle.time_s = story.time_s;
    (colo ? story.colo_s : story.periods_s.emplace_back()) += cycle.uptime_s;
    const auto mode = decision.mode;
    decision = controller.decide(cycle);
    if (decision.mode != mode) story.changes.push_back({story.time_s, decision});
    const auto mb = behaviour.mb_per_s * cycle.uptime_s;
    cycle.pause_s = colo ? behaviour.colo_pause_s : behaviour.fixed_pause_s + pause_per_mb_s * mb;
    cycle.bytes = static_cast<std::uint64_t>(1e6 * mb);
    story.time_s += cycle.pause_s;
    story.down_s += cycle.pause_s;
    if (colo) story.colo_s += cycle.pause_s;
  }
  return story;
}

inline Story live(double seconds, const BehaviourAt& behaviour_at, const Parameters& p = {}) {
  Controller controller(Policy::adaptive, p);
  return live(controller, seconds, behaviour_at);
}

}  // namespace tandem::controller
