// `tandem replay`: decides again what a recording says was decided, with the product's own
// controller. Asks no daemon.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/cli/policy_change.hpp"
#include "engine/control/replay.hpp"

namespace tandem::cli {

/// exit_failed if a decision is another one than was recorded, unless `otherwise` asks for
/// something else than was recorded.
int replay_file(const std::string& file, const PolicyChange& otherwise, bool json);

/// What it says, in lines and in JSON. Pure.
std::vector<std::string> replay_lines(const control::Replay::Summary& summary,
                                      const PolicyChange& otherwise);
nlohmann::json replay_json(const control::Replay::Summary& summary, const PolicyChange& otherwise);

}  // namespace tandem::cli
