// The client of the demo: it writes to redis over one TCP connection at a steady rate, notes what
// was acknowledged and when, and at the end asks for all of it back.
//
// It runs in a thread of its own, inside a network namespace if one is given. The rate is
// open-loop: it does not slow down with the answers, except that at most `window` writes are
// unanswered at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "experiments/demo/ledger.hpp"
#include "experiments/world/net_namespace.hpp"

namespace tandem::demo {

struct ClientOptions {
  std::string address;  ///< IPv4
  std::uint16_t port = 6379;
  double writes_per_second = 100;
  std::size_t window = 64;
  const world::NetNamespace* net = nullptr;  ///< must outlive the client
};

/// What the client has seen so far.
struct ClientProgress {
  std::uint64_t sent = 0, acknowledged = 0;
  std::optional<Time> last_answer;
  std::string problem;  ///< why the connection is lost; empty while it lives
};

struct FinishLimits {
  std::chrono::milliseconds answers{15000};    ///< for the writes that are still unanswered
  std::chrono::milliseconds read_back{30000};  ///< for reading everything back
};

struct ClientReport {
  /// One connection from the first write to the last value read back.
  bool connection_survived = false;
  std::string connection_problem;
  std::uint64_t sent = 0, acknowledged = 0;
  /// Acknowledged writes that the service did not show afterwards.
  std::uint64_t lost = 0;
  std::vector<std::uint64_t> lost_examples;
  std::string read_back_problem;  ///< why not all could be asked for; they count as lost
  std::vector<Time> answers;      ///< when writes were answered
  /// Set if writes were still unanswered when the client gave up, or the connection had died: until
  /// then.
  std::optional<Time> waiting_until;
};

class RedisClient {
 public:
  explicit RedisClient(ClientOptions options);
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;
  /// Gives up whatever it is doing.
  ~RedisClient();

  /// Tries until redis answers a PING; that connection is then the one. Errc::timed_out quotes the
  /// last failure. Once only.
  std::future<Result<void>> connect(std::chrono::milliseconds timeout);
  /// Starts the stream of writes; connect() must have succeeded.
  void start_writing();
  /// Stops writing, waits for what is unanswered, and reads everything back: over the same
  /// connection, or if that is dead over a new one, only to count the losses. Once only.
  std::future<ClientReport> finish(FinishLimits limits);

  [[nodiscard]] ClientProgress progress() const;

 private:
  class Worker;
  void post(std::function<void(Worker&)> job);
  void run(Worker& worker);
  [[nodiscard]] bool interrupted() const;

  ClientOptions options_;
  UniqueFd wake_;  // readable when there is a job
  UniqueFd stop_;  // readable when the client is to end
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::deque<std::function<void(Worker&)>> jobs_;
  ClientProgress progress_;
  std::thread thread_;
};

}  // namespace tandem::demo
