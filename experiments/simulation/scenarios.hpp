// The workloads that are simulated.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "experiments/simulation/calibration.hpp"

namespace tandem::simulation {

struct Scenario {
  std::string name;
  std::string what;  ///< for people
  Workload workload;
  std::optional<PaperRow> paper;
  /// It changes, so that a policy that changes over has something to gain.
  bool changes = false;
};

using Progress = std::function<void(const std::string&)>;

/// Drafts of the paper's three; what Table I fixes is to be set by calibrated().
Workload rubis_draft();
Workload bugzilla_draft();
Workload video_draft();

std::vector<std::string> scenario_names();
/// Those of these names, calibrated; in the order of scenario_names().
std::vector<Scenario> scenarios(const std::vector<std::string>& names, const Progress& progress);

}  // namespace tandem::simulation
