// What the free choices of the model change: each is varied, and the static columns are calibrated
// anew each time.
#pragma once

#include <string>

#include "experiments/simulation/study.hpp"

namespace tandem::simulation {

/// In Markdown.
std::string sensitivity(const Setting& setting, const Progress& progress);

}  // namespace tandem::simulation
