// What a command line asks of a VM's controller: a policy, parameters, or both. docs/controller.md
// has them.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tandem::cli {

struct PolicyChange {
  std::string policy;  ///< empty: as it is
  std::map<std::string, double> parameters;

  [[nodiscard]] bool empty() const noexcept { return policy.empty() && parameters.empty(); }
};

/// Takes "NAME=VALUE" in. Errc::invalid_input names a parameter that does not exist, a value that
/// is no number or out of its range, or one that is set twice.
Result<void> add_setting(PolicyChange& change, std::string_view setting);

/// What the API takes: {"policy", "parameters"}, each only if it was asked for.
nlohmann::json to_json(const PolicyChange& change);

}  // namespace tandem::cli
