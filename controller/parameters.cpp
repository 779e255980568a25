#include "controller/parameters.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace tandem::controller {
namespace {

using P = Parameters;

constexpr std::array table{
    ParameterInfo{"period_ms", &P::period_ms, 10, 60'000, true, "ms",
                  "how long the VM runs between two checkpoints in periodic mode"},
    ParameterInfo{"colo_checkpoint_max_ms", &P::colo_checkpoint_max_ms, 1'000, 60'000, true, "ms",
                  "how long the VM runs between two checkpoints in colo mode, at most"},
    ParameterInfo{"checkpoint_rate_max", &P::checkpoint_rate_max, 1, 100, false, "1/s",
                  "no policy asks for more checkpoints than this"},
    ParameterInfo{"window_s", &P::window_s, 1, 600, false, "s",
                  "the moving window of the downtime ratio and of checkpoints per second"},
    ParameterInfo{"threshold_interval_ms", &P::threshold_interval_ms, 1, 60'000, false, "ms",
                  "threshold: colo mode is left when the VM runs for less than this between two "
                  "checkpoints, on average"},
    ParameterInfo{"threshold_average", &P::threshold_average, 1, 500, true, "checkpoints",
                  "threshold: the average is over so many"},
    ParameterInfo{"threshold_stay", &P::threshold_stay, 1, 100'000, true, "checkpoints",
                  "threshold: a stay in periodic mode"},
    ParameterInfo{"hybrid_stay", &P::hybrid_stay, 0, 100'000, true, "checkpoints",
                  "hybrid: the shortest stay in periodic mode (b-bar)"},
    ParameterInfo{"hybrid_measure", &P::hybrid_measure, 1, 100'000, true, "checkpoints",
                  "hybrid: colo mode is on trial for so long, or for one window (b-bar)"},
    ParameterInfo{"hybrid_verdict", &P::hybrid_verdict, 1, 1'000, true, "checkpoints",
                  "hybrid: the downtime ratio of colo mode counts after so many"},
    ParameterInfo{"hybrid_sigma_start", &P::hybrid_sigma_start, 0, 100'000, false, "checkpoints",
                  "hybrid: sigma, what a stay lasts beyond the shortest, to begin with"},
    ParameterInfo{"hybrid_sigma_min", &P::hybrid_sigma_min, 0, 100'000, false, "checkpoints",
                  "hybrid: the least sigma"},
    ParameterInfo{"hybrid_sigma_max", &P::hybrid_sigma_max, 0, 100'000, false, "checkpoints",
                  "hybrid: the greatest sigma"},
    ParameterInfo{"hybrid_sigma_growth", &P::hybrid_sigma_growth, 1, 100, false, "factor",
                  "hybrid: sigma grows by this when colo mode fails its trial"},
    ParameterInfo{"hybrid_sigma_decay", &P::hybrid_sigma_decay, 0, 100'000, false, "checkpoints",
                  "hybrid: sigma falls by this with each checkpoint in colo mode after the trial "
                  "(d)"},
    ParameterInfo{"hybrid_gain", &P::hybrid_gain, 0, 100, false, "s",
                  "hybrid: the gain of the PI controller (K)"},
    ParameterInfo{"hybrid_integral_time_s", &P::hybrid_integral_time_s, 0.001, 100'000, false, "s",
                  "hybrid: its integral time (Ti)"},
    ParameterInfo{"hybrid_set_point", &P::hybrid_set_point, 0, 100, false, "1/s",
                  "hybrid: checkpoints per second that the bound is regulated for (sp)"},
    ParameterInfo{"hybrid_bound_start", &P::hybrid_bound_start, 0, 1'000, false, "ratio",
                  "hybrid: the bound of the downtime ratio (rho-bar), to begin with"},
    ParameterInfo{"hybrid_bound_min", &P::hybrid_bound_min, 0, 1'000, false, "ratio",
                  "hybrid: the least bound"},
    ParameterInfo{"hybrid_bound_max", &P::hybrid_bound_max, 0, 1'000, false, "ratio",
                  "hybrid: the greatest bound"},
    ParameterInfo{"adaptive_latency_budget_ms", &P::adaptive_latency_budget_ms, 10, 60'000, false,
                  "ms",
                  "adaptive: a periodic epoch and its checkpoint's pause are not made longer than "
                  "this together"},
    ParameterInfo{"adaptive_fixed_share", &P::adaptive_fixed_share, 0.001, 1, false, "share",
                  "adaptive: periods are made longer until the fixed part of pauses is no more "
                  "than this share of them"},
    ParameterInfo{"adaptive_trial_share", &P::adaptive_trial_share, 0, 0.5, false, "share",
                  "adaptive: trials that fail may add this share to the downtime"},
};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.12g", value);
  return text;
}

}  // namespace

std::span<const ParameterInfo> parameter_table() noexcept {
  return table;
}

const ParameterInfo* find_parameter(std::string_view name) noexcept {
  const auto found = std::ranges::find(table, name, &ParameterInfo::name);
  return found == table.end() ? nullptr : &*found;
}

std::optional<std::string> set(Parameters& parameters, std::string_view name, double value) {
  const auto* info = find_parameter(name);
  if (info == nullptr) return std::string(name) + " is not a parameter of the controller";
  // Written so that what is not a number is refused too.
  if (!(value >= info->min && value <= info->max)) {
    return std::string(name) + " is " + number(value) + "; expected " + number(info->min) + " to " +
           number(info->max);
  }
  if (info->whole && value != std::floor(value)) {
    return std::string(name) + " is " + number(value) + "; expected a whole number";
  }
  parameters.*info->value = value;
  return std::nullopt;
}

std::optional<std::string> check(const Parameters& p) {
  if (p.hybrid_sigma_min > p.hybrid_sigma_max) {
    return "hybrid_sigma_min is above hybrid_sigma_max";
  }
  if (p.hybrid_bound_min > p.hybrid_bound_max) {
    return "hybrid_bound_min is above hybrid_bound_max";
  }
  if (p.hybrid_verdict > p.hybrid_measure) {
    return "hybrid_verdict is above hybrid_measure: no trial of colo mode could fail";
  }
  if (p.period_ms * p.checkpoint_rate_max < 1000) {
    return "a period of " + number(p.period_ms) + " ms is more than checkpoint_rate_max, " +
           number(p.checkpoint_rate_max) + " checkpoints per second";
  }
  if (p.threshold_interval_ms >= p.colo_checkpoint_max_ms) {
    return "threshold_interval_ms, " + number(p.threshold_interval_ms) + ", is not below the " +
           number(p.colo_checkpoint_max_ms) + " ms after which colo mode takes a checkpoint anyway";
  }
  return std::nullopt;
}

}  // namespace tandem::controller
