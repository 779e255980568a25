#include "engine/control/json.hpp"

#include <climits>
#include <cstdint>
#include <optional>
#include <type_traits>

namespace tandem::control {
namespace {

using namespace controller;
using nlohmann::json;

Result<Mode> mode_from_json(const json& value) {
  const std::string text = value;
  if (text == to_string(Mode::periodic)) return Mode::periodic;
  if (text == to_string(Mode::colo)) return Mode::colo;
  return Error{Errc::invalid_input, "there is no mode \"" + text + "\""};
}

Result<Reason> reason_from_json(const json& value) {
  const std::string text = value;
  for (auto reason = Reason::start; reason <= Reason::probe;
       reason = static_cast<Reason>(static_cast<int>(reason) + 1)) {
    if (to_string(reason) == text) return reason;
  }
  return Error{Errc::invalid_input, "there is no reason \"" + text + "\""};
}

json window_to_json(const Window& window) {
  auto cycles = json::array();
  for (const auto& cycle : window.cycles()) {
    cycles.push_back({cycle.time_s, cycle.pause_s, cycle.uptime_s});
  }
  return cycles;
}

Window window_from_json(const json& array) {
  std::deque<Window::Cycle> cycles;
  for (const auto& cycle : array) {
    cycles.push_back({cycle.at(0), cycle.at(1), cycle.at(2)});
    if (cycles.size() > Window::cycles_max) cycles.pop_front();
  }
  Window window;
  window.restore(std::move(cycles));
  return window;
}

/// Numbers and enumerations as numbers, windows as arrays of cycles.
struct StateWriter {
  json& object;
  void operator()(const char* name, const Window& window) const {
    object[name] = window_to_json(window);
  }
  template <class T>
  void operator()(const char* name, const T& value) const {
    if constexpr (std::is_enum_v<T>) {
      object[name] = static_cast<int>(value);
    } else {
      object[name] = value;
    }
  }
};

std::uint64_t whole_from_json(const json& value, std::uint64_t max) {
  const bool is_whole =
      value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0);
  if (!is_whole || value.get<std::uint64_t>() > max) {
    const auto found = value.is_number() ? value.dump() : std::string(value.type_name());
    throw ErrorException(
        {Errc::invalid_input, found + " is not a whole number up to " + std::to_string(max)});
  }
  return value.get<std::uint64_t>();
}

struct StateReader {
  const json& object;
  void operator()(const char* name, Window& window) const {
    window = window_from_json(object.at(name));
  }
  void operator()(const char* name, double& value) const { value = object.at(name).get<double>(); }
  void operator()(const char* name, Mode& value) const {
    value = static_cast<Mode>(whole_from_json(object.at(name), static_cast<int>(Mode::colo)));
  }
  /// An enumeration whose values all have names.
  template <class T>
  void operator()(const char* name, T& value) const {
    value = static_cast<T>(whole_from_json(object.at(name), INT_MAX));
    if (to_string(value) == "unknown") {
      throw ErrorException({Errc::invalid_input, std::string(name) + " is none of its values"});
    }
  }
};

template <class F>
auto reading(std::string_view what, F read) -> decltype(read()) {
  try {
    auto result = read();
    if (!result) return with_context(what, result.error());
    return result;
  } catch (const json::exception& error) {
    return Error{Errc::invalid_input, std::string(what) + ": " + error.what()};
  } catch (const ErrorException& error) {
    return with_context(what, error.error);
  }
}

}  // namespace

Result<Policy> policy_from_string(std::string_view text) {
  if (const auto policy = controller::policy_from_string(text)) return *policy;
  std::string names;
  for (const auto policy : policies) {
    names += (names.empty() ? "" : ", ") + std::string(to_string(policy));
  }
  return Error{Errc::invalid_input,
               "there is no policy \"" + std::string(text) + "\"; expected one of " + names};
}

json to_json(const Parameters& parameters) {
  auto object = json::object();
  for (const auto& info : parameter_table()) {
    object[std::string(info.name)] = parameters.*info.value;
  }
  return object;
}

Result<void> set_parameters(const json& object, Parameters& parameters) {
  if (!object.is_object()) {
    return Error{Errc::invalid_input, "the parameters are not an object of names and numbers"};
  }
  auto changed = parameters;
  for (const auto& [name, value] : object.items()) {
    if (!value.is_number()) return Error{Errc::invalid_input, name + " is not a number"};
    if (const auto wrong = controller::set(changed, name, value.get<double>())) {
      return Error{Errc::invalid_input, *wrong};
    }
  }
  if (const auto wrong = controller::check(changed)) return Error{Errc::invalid_input, *wrong};
  parameters = changed;
  return {};
}

json to_json(const Observation& observation) {
  return {{"time_s", observation.time_s},   {"mode", to_string(observation.mode)},
          {"pause_s", observation.pause_s}, {"uptime_s", observation.uptime_s},
          {"bytes", observation.bytes},     {"mismatches", observation.mismatches}};
}

Result<Observation> observation_from_json(const json& object) {
  return reading("observation", [&]() -> Result<Observation> {
    const auto mode = mode_from_json(object.at("mode"));
    if (!mode) return mode.error();
    return Observation{object.at("time_s"),
                       *mode,
                       object.at("pause_s"),
                       object.at("uptime_s"),
                       whole_from_json(object.at("bytes"), UINT64_MAX),
                       whole_from_json(object.at("mismatches"), UINT64_MAX)};
  });
}

json to_json(const Decision& decision) {
  return {{"mode", to_string(decision.mode)},
          {"due_s", decision.due_s},
          {"reason", to_string(decision.reason)}};
}

Result<Decision> decision_from_json(const json& object) {
  return reading("decision", [&]() -> Result<Decision> {
    const auto mode = mode_from_json(object.at("mode"));
    if (!mode) return mode.error();
    const auto reason = reason_from_json(object.at("reason"));
    if (!reason) return reason.error();
    return Decision{*mode, object.at("due_s"), *reason};
  });
}

json to_json(const std::vector<Figure>& figures) {
  auto object = json::object();
  for (const auto& figure : figures) object[std::string(figure.name)] = figure.value;
  return object;
}

json to_json(const Controller& controller) {
  auto state = json::object();
  std::visit([&](const auto& policy) { policy.fields(policy, StateWriter{state}); },
             controller.state());
  return {{"policy", to_string(controller.policy())},
          {"parameters", to_json(controller.parameters())},
          {"state", std::move(state)},
          {"window", window_to_json(controller.window())},
          {"last", to_json(controller.last())}};
}

Result<Controller> controller_from_json(const json& object) {
  return reading("controller", [&]() -> Result<Controller> {
    const auto policy = control::policy_from_string(object.at("policy").get<std::string>());
    if (!policy) return policy.error();
    Parameters parameters;
    const auto set = set_parameters(object.at("parameters"), parameters);
    if (!set) return set.error();
    const auto last = decision_from_json(object.at("last"));
    if (!last) return last.error();
    Controller controller(*policy, parameters);
    auto state = controller.state();
    const auto& fields = object.at("state");
    std::visit([&](auto& policy_state) { policy_state.fields(policy_state, StateReader{fields}); },
               state);
    controller.restore(std::move(state), window_from_json(object.at("window")), *last);
    return controller;
  });
}

}  // namespace tandem::control
