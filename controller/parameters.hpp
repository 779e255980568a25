// What can be set about a controller: one table names each parameter with its unit, range and
// meaning, for the configuration, the API and the documentation alike.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tandem::controller {

/// The defaults are the paper's where it gives one (docs/controller.md says which).
struct Parameters {
  // All policies.
  double period_ms = 250;
  double colo_checkpoint_max_ms = 10'000;
  double checkpoint_rate_max = 20;
  double window_s = 10;
  // threshold
  double threshold_interval_ms = 400;
  double threshold_average = 3;
  double threshold_stay = 100;
  // hybrid, inner layer
  double hybrid_stay = 25;
  double hybrid_measure = 25;
  double hybrid_verdict = 1;
  double hybrid_sigma_start = 1;
  double hybrid_sigma_min = 1;
  double hybrid_sigma_max = 512;
  double hybrid_sigma_growth = 1.8;
  double hybrid_sigma_decay = 25;
  // hybrid, outer layer
  double hybrid_gain = 0.01;
  double hybrid_integral_time_s = 3;
  double hybrid_set_point = 1.5;
  double hybrid_bound_start = 0.5;
  double hybrid_bound_min = 0.02;
  double hybrid_bound_max = 0.5;
  // adaptive
  double adaptive_latency_budget_ms = 1250;
  double adaptive_fixed_share = 0.01;
  double adaptive_trial_share = 0.01;

  friend bool operator==(const Parameters&, const Parameters&) = default;
};

struct ParameterInfo {
  std::string_view name;
  double Parameters::*value;
  double min, max;
  bool whole;  ///< a count: no fractions
  std::string_view unit;
  std::string_view meaning;
};

/// In the order of the struct.
std::span<const ParameterInfo> parameter_table() noexcept;

/// Null if there is no such parameter.
const ParameterInfo* find_parameter(std::string_view name) noexcept;

/// Sets one parameter. The text says what is wrong: an unknown name, a value outside its range or
/// with a fraction where none can be; then nothing is changed.
std::optional<std::string> set(Parameters& parameters, std::string_view name, double value);

/// What is wrong between parameters that are each in their range: a minimum above its maximum, a
/// period that the limit on checkpoints forbids, a threshold that colo mode can never stay above.
std::optional<std::string> check(const Parameters& parameters);

}  // namespace tandem::controller
