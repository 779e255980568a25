// What has happened on this host, for people and for programs that wait for it: a bounded log of
// events.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tandem::daemon {

struct LoggedEvent {
  std::uint64_t seq = 0;  ///< from 1
  std::chrono::system_clock::time_point time;
  std::string vm, type, message;
  nlohmann::json data = nlohmann::json::object();
};

nlohmann::json to_json(const LoggedEvent& event);

/// Thread-safe. The newest `capacity` events are kept.
class EventLog {
 public:
  explicit EventLog(std::size_t capacity = 1000) : capacity_(capacity) {}

  void add(std::string vm, std::string type, std::string message, nlohmann::json data);
  [[nodiscard]] std::vector<LoggedEvent> after(std::uint64_t seq) const;
  [[nodiscard]] std::uint64_t last() const;

  /// Called after each new event, on the thread that adds it.
  void on_new(std::function<void()> handler);

 private:
  mutable std::mutex mutex_;
  std::size_t capacity_;
  std::uint64_t last_ = 0;
  std::deque<LoggedEvent> events_;
  std::function<void()> on_new_;
};

}  // namespace tandem::daemon
