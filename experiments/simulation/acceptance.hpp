// What is asked of the policies and of the model, checked against the results.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "experiments/simulation/study.hpp"

namespace tandem::simulation {

struct Check {
  std::string statement;
  bool holds = false;
  std::string evidence;
};

/// Of what was run; nothing is said about the rest. The calibrated columns are compared only for
/// the runs that they were calibrated with.
std::vector<Check> checks(std::span<const ScenarioResult> results);

// What the table's columns are compared with.
inline constexpr double static_downtime_off = 0.01;  ///< of what was calibrated
inline constexpr double static_others_off = 0.05;
inline constexpr double predicted_downtime_off = 0.15;
// What is asked of `adaptive`.
inline constexpr double worse_than_static = 0.02;
inline constexpr double better_than_hybrid = 0.10;
inline constexpr double back_within_s = 15;

}  // namespace tandem::simulation
