#include "experiments/demo/failover_times.hpp"

#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace tandem::demo {
namespace {

// The first event of one of these types on `host` in [from, until].
std::optional<double> first_of(const std::vector<DaemonEvent>& events, const std::string& host,
                               std::initializer_list<std::string_view> types, double from,
                               double until) {
  std::optional<double> first;
  for (const auto& event : events) {
    if (event.host != host || event.time < from || event.time > until) continue;
    if (std::find(types.begin(), types.end(), event.type) == types.end()) continue;
    if (!first || event.time < *first) first = event.time;
  }
  return first;
}

}  // namespace

std::optional<double> number_at(const nlohmann::json& json, const std::string& pointer) {
  const nlohmann::json::json_pointer place(pointer);
  if (!json.contains(place) || !json.at(place).is_number()) return std::nullopt;
  return json.at(place).get<double>();
}

std::optional<std::uint64_t> count_at(const nlohmann::json& json, const std::string& pointer) {
  const nlohmann::json::json_pointer place(pointer);
  if (!json.contains(place) || !json.at(place).is_number_unsigned()) return std::nullopt;
  return json.at(place).get<std::uint64_t>();
}

bool flag_at(const nlohmann::json& json, const std::string& pointer) {
  const nlohmann::json::json_pointer place(pointer);
  return json.contains(place) && json.at(place).is_boolean() && json.at(place).get<bool>();
}

std::string text_at(const nlohmann::json& json, const std::string& pointer) {
  const nlohmann::json::json_pointer place(pointer);
  if (!json.contains(place) || !json.at(place).is_string()) return {};
  return json.at(place).get<std::string>();
}

std::vector<DaemonEvent> events_from_json(const std::string& host, const nlohmann::json& answer) {
  std::vector<DaemonEvent> events;
  if (!answer.is_object() || !answer.contains("events") || !answer["events"].is_array())
    return events;
  for (const auto& entry : answer["events"]) {
    const auto time = number_at(entry, "/time");
    if (!time) continue;
    events.push_back(
        {host, *time, text_at(entry, "/vm"), text_at(entry, "/type"), text_at(entry, "/message")});
  }
  return events;
}

FailoverTimes failover_times(const std::vector<DaemonEvent>& events, const std::string& survivor,
                             double killed_at, const nlohmann::json& status) {
  constexpr double kEver = 1e18;
  FailoverTimes times;
  times.running_at =
      first_of(events, survivor, {"promoted", "solo", "daemon-recovered"}, killed_at, kEver);
  if (times.running_at) times.failover_ms = (*times.running_at - killed_at) * 1000;

  const double until = times.running_at.value_or(kEver);
  const auto detected =
      first_of(events, survivor, {"peer-lost", "vm-lost", "daemon-recovered"}, killed_at, until);
  const auto granted = first_of(events, survivor, {"arbiter-granted"}, killed_at, until);
  const auto loaded = first_of(events, survivor, {"loaded"}, granted.value_or(killed_at), until);
  const auto step = [&](std::optional<double> from, std::optional<double> to,
                        const char* fallback) -> std::optional<double> {
    if (from && to) return std::max(0.0, (*to - *from) * 1000);
    return number_at(status, std::string("/failover/") + fallback);
  };
  times.split.detection_ms = step(killed_at, detected, "detection_ms");
  times.split.decision_ms = step(detected, granted, "decision_ms");
  times.split.load_ms = step(granted, loaded, "load_ms");
  times.split.running_ms = step(loaded ? loaded : granted, times.running_at, "running_ms");
  return times;
}

}  // namespace tandem::demo
