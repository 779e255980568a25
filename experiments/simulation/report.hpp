// The results on paper: Markdown, CSV and JSON. Pure; the same results give the same bytes.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "experiments/simulation/acceptance.hpp"

namespace tandem::simulation {

/// Results beside the paper's, where the paper contradicts itself, all workloads, what was
/// calibrated, and the checks.
std::string markdown(std::span<const ScenarioResult> results, const Setting& setting);
/// A line for each run.
std::string summary_csv(std::span<const ScenarioResult> results);
nlohmann::json to_json(std::span<const ScenarioResult> results, const Setting& setting);

/// A row of a Markdown table.
std::string row(const std::vector<std::string>& cells);
/// With so many digits behind the point.
std::string number(double value, int digits);

}  // namespace tandem::simulation
