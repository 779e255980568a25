#include "engine/cli/policy_change.hpp"

#include <charconv>

#include "controller/parameters.hpp"

namespace tandem::cli {

Result<void> add_setting(PolicyChange& change, std::string_view setting) {
  const auto equals = setting.find('=');
  if (equals == std::string_view::npos) {
    return Error{Errc::invalid_input,
                 "\"" + std::string(setting) + "\" is not NAME=VALUE, such as window_s=20"};
  }
  const std::string name(setting.substr(0, equals));
  const auto text = setting.substr(equals + 1);
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size()) {
    return Error{Errc::invalid_input,
                 name + " is \"" + std::string(text) + "\"; expected a number"};
  }
  controller::Parameters defaults;
  if (const auto wrong = controller::set(defaults, name, value)) {
    const bool known = controller::find_parameter(name) != nullptr;
    return Error{Errc::invalid_input, *wrong + (known ? "" : " (tandem policy VM shows them all)")};
  }
  if (!change.parameters.emplace(name, value).second) {
    return Error{Errc::invalid_input, name + " is set twice"};
  }
  return {};
}

nlohmann::json to_json(const PolicyChange& change) {
  auto json = nlohmann::json::object();
  if (!change.policy.empty()) json["policy"] = change.policy;
  if (!change.parameters.empty()) json["parameters"] = change.parameters;
  return json;
}

}  // namespace tandem::cli
