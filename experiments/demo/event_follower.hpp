// Follows the events of the hosts' daemons while the demonstration runs, through restarts of a
// daemon.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/api/client.hpp"
#include "experiments/demo/failover_times.hpp"

namespace tandem::demo {

class EventFollower {
 public:
  EventFollower() = default;
  EventFollower(const EventFollower&) = delete;
  EventFollower& operator=(const EventFollower&) = delete;
  /// Waits for the polls under way (at most 500 ms).
  ~EventFollower();

  /// Begins with the oldest event that the daemon keeps.
  void follow(const std::string& host, api::ApiClient client);

  /// All events so far, in the order in which they arrived. At most 10,000 a host are kept.
  [[nodiscard]] std::vector<DaemonEvent> all() const;
  /// Those that arrived since the last call.
  std::vector<DaemonEvent> take_new();

 private:
  void run(const std::string& host, const api::ApiClient& client);

  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::condition_variable stopped_;
  std::vector<DaemonEvent> events_;
  std::size_t taken_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace tandem::demo
