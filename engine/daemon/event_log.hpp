// What has happened on this host, for people and for programs that wait for it: a bounded log of
// events.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::daemon {

struct LoggedEvent {
  std::uint64_t seq = 0;  ///< from 1
  std::chrono::system_clock::time_point time;
  std::string vm, type, message;
  nlohmann::json data = nlohmann::json::object();
};

nlohmann::json to_json(const LoggedEvent& event);

/// All types that the daemon has, as docs/api.md lists them.
std::span<const std::string_view> event_types() noexcept;

/// Thread-safe. The newest `capacity` events are kept.
class EventLog {
 public:
  explicit EventLog(std::size_t capacity = 1000);

  void add(std::string vm, std::string type, std::string message, nlohmann::json data);
  [[nodiscard]] std::vector<LoggedEvent> after(std::uint64_t seq) const;
  [[nodiscard]] std::uint64_t last() const;
  /// How many there were of each type, those that are not kept any more included.
  [[nodiscard]] std::map<std::string, std::uint64_t> counts() const;

  /// Called after each new event, on the thread that adds it.
  void on_new(std::function<void()> handler);

 private:
  mutable std::mutex mutex_;
  std::size_t capacity_;
  std::uint64_t last_ = 0;
  std::deque<LoggedEvent> events_;
  std::map<std::string, std::uint64_t> counts_;
  std::function<void()> on_new_;
};

}  // namespace tandem::daemon
