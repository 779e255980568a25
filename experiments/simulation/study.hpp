// Runs policies through workloads, and keeps what came of it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "experiments/simulation/scenarios.hpp"

namespace tandem::simulation {

struct Setting {
  std::uint64_t seeds = 10;
  double minutes = 30;
  std::vector<controller::Policy> policies{std::begin(controller::policies),
                                           std::end(controller::policies)};
  controller::Parameters parameters{};
};

struct PolicyResult {
  controller::Policy policy = controller::Policy::periodic;
  std::vector<Totals> runs;  ///< one for each seed, from 1
  Means means;
  /// `switching`: how long after the beginning of a phase of known replies COLO mode that lasts
  /// began, at worst; the whole phase if it never did.
  std::optional<double> back_s;
};

struct ScenarioResult {
  Scenario scenario;
  std::vector<PolicyResult> policies;

  /// Null if it was not run.
  [[nodiscard]] const PolicyResult* find(controller::Policy policy) const;
};

/// A stretch of COLO mode as short as this is a trial that failed.
inline constexpr double colo_lasts_s = 5;

PolicyResult study(const Scenario& scenario, controller::Policy policy, const Setting& setting);

/// The second beginnings of phases of known replies, and all later ones, are looked at. `changes`:
/// when which mode began.
struct ModeChange {
  double time_s = 0;
  controller::Mode mode = controller::Mode::periodic;
};
double back_in_colo_s(std::span<const ModeChange> changes, double seconds);

}  // namespace tandem::simulation
