// Reads from the daemons' events how long each step of a failover took.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "experiments/demo/report.hpp"

namespace tandem::demo {

/// An event as a daemon's API tells it. `time` is in seconds since 1970 by CLOCK_REALTIME, which
/// all processes of the world share.
struct DaemonEvent {
  std::string host;
  double time = 0;
  std::string vm, type, message;
};

/// The events in an answer to GET /v1/events; what is not an event as promised is left out.
std::vector<DaemonEvent> events_from_json(const std::string& host, const nlohmann::json& answer);

struct FailoverTimes {
  std::optional<double> running_at;  ///< when the survivor ran, in seconds since 1970
  std::optional<double> failover_ms;
  FailoverSplit split;  ///< first_reply_ms is not set: events do not know it
};

/// From the kill at `killed_at` to the survivor running. The survivor ran when it says `promoted`
/// (it was the secondary), `solo` or `daemon-recovered` (it goes on in place). `status` is the
/// survivor's answer for the VM: where an event is missing, the step's time in its "failover"
/// object stands in.
FailoverTimes failover_times(const std::vector<DaemonEvent>& events, const std::string& survivor,
                             double killed_at, const nlohmann::json& status);

/// A number at a JSON pointer ("/pause_ms/mean"); nothing if there is none.
std::optional<double> number_at(const nlohmann::json& json, const std::string& pointer);
std::optional<std::uint64_t> count_at(const nlohmann::json& json, const std::string& pointer);
/// Whether there is a true at a JSON pointer.
bool flag_at(const nlohmann::json& json, const std::string& pointer);
/// A text at a JSON pointer; empty if there is none.
std::string text_at(const nlohmann::json& json, const std::string& pointer);

}  // namespace tandem::demo
