// The controller's values in JSON: for the API, the state of a pair, and recordings. docs/api.md
// has the fields. What is written and read back is the same to the last bit.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "controller/controller.hpp"

namespace tandem::control {

/// Errc::invalid_input names the policies.
Result<controller::Policy> policy_from_string(std::string_view text);

nlohmann::json to_json(const controller::Parameters& parameters);
/// Sets those that `object` names. Errc::invalid_input names the one that is unknown, not a number
/// or out of its range; `parameters` is unchanged then.
Result<void> set_parameters(const nlohmann::json& object, controller::Parameters& parameters);

nlohmann::json to_json(const controller::Observation& observation);
Result<controller::Observation> observation_from_json(const nlohmann::json& json);

nlohmann::json to_json(const controller::Decision& decision);
Result<controller::Decision> decision_from_json(const nlohmann::json& json);

nlohmann::json to_json(const std::vector<controller::Figure>& figures);

/// Policy, parameters and state: what the next decisions depend on.
nlohmann::json to_json(const controller::Controller& controller);
Result<controller::Controller> controller_from_json(const nlohmann::json& json);

}  // namespace tandem::control
