// What is said on one connection with the guest's services, and the proof that it was answered
// right: every byte is known beforehand, or carries its own checksum.
//
// Pure: bytes to send come out, bytes received go in, the time is an argument. The guest's side is
// experiments/guests/peerd.c.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace tandem::survival {

using Time = std::chrono::steady_clock::time_point;

/// What an exchange has seen.
struct Account {
  std::uint64_t sent = 0;      ///< bytes, of the service's own only
  std::uint64_t received = 0;  ///< bytes that were right
  std::uint64_t requests = 0;
  std::uint64_t replies = 0;
  std::vector<Time> answers;  ///< when something that was waited for came
  /// How long each reply took, only where replies are counted. At a steady rate that is from when
  /// the request was due, so that one that was held up counts for as long as it was.
  struct Latency {
    Time asked;
    std::chrono::nanoseconds took;
  };
  std::vector<Latency> latencies;
};

class Exchange {
 public:
  /// How much produce() leaves in the sending buffer.
  static constexpr std::size_t out_bytes_max = 64 * 1024;

  virtual ~Exchange() = default;
  /// Appends what is to be sent now.
  virtual void produce(Time now, std::string& out) = 0;
  /// When produce() would have something by the passing of time alone; nullopt: never, or at once.
  [[nodiscard]] virtual std::optional<Time> due() const = 0;
  /// Errc::protocol for a byte that is not as it must be.
  virtual Result<void> consume(std::string_view bytes, Time now) = 0;
  /// From now on nothing new is begun.
  virtual void finish() { finishing_ = true; }
  /// finish() was called, and this side has nothing to wait for before it sends its FIN.
  [[nodiscard]] virtual bool settled() const = 0;
  /// All that was asked for has come.
  [[nodiscard]] virtual bool complete() const = 0;
  /// What has not come yet, for people.
  [[nodiscard]] virtual std::string missing() const = 0;

  [[nodiscard]] const Account& account() const noexcept { return account_; }

 protected:
  Account account_;
  bool finishing_ = false;
};

/// Messages at a steady rate, each of which must come back. Open-loop: it does not slow down with
/// the answers, except that at most `window` messages are unanswered.
struct EchoOptions {
  std::uint64_t seed = 1;
  double messages_per_second = 20;
  std::size_t message_bytes = 100;
  std::size_t window = 64;
  bool says_echo = true;  ///< false where the guest dialed: it echoes at once
};
std::unique_ptr<Exchange> make_echo(const EchoOptions& options, Time now);

/// A stream to the guest, as fast as it goes, whose sum the guest confirms every `step` bytes.
std::unique_ptr<Exchange> make_upload(std::uint64_t seed, std::uint64_t step);

/// A stream from the guest, of which at most `window` bytes are asked for ahead.
std::unique_ptr<Exchange> make_download(std::uint64_t seed, std::uint64_t window);

/// Requests for random bytes, one at a time: the next one `interval` after the last reply. Every id
/// is answered once, in order, with the right checksum and with bytes that were not seen before.
std::unique_ptr<Exchange> make_random(std::chrono::milliseconds interval, Time now);

/// Requests to peerd's SERVE at a steady rate, none of which is left out however late the answers
/// are. An answer is known beforehand, or it is random, and then it carries its checksum.
struct ServiceOptions {
  std::uint64_t pages = 0;  ///< that each request writes to
  double requests_per_second = 50;
  Time begin{}, end{};  ///< requests are due in [begin, end)
  std::function<bool(Time due)>
      random;  ///< whether the request that is due then asks for a random answer
};
std::unique_ptr<Exchange> make_service(const ServiceOptions& options);

/// redis's INCR on a key of its own: each reply must be the number of the request. Open-loop at
/// `requests_per_second` with at most `window` unanswered, or with 0 closed-loop, one at a time.
struct CounterOptions {
  std::string key = "counter";
  double requests_per_second = 100;
  std::size_t window = 64;
};
std::unique_ptr<Exchange> make_counter(const CounterOptions& options, Time now);

/// When requests are due at a steady rate, of which one that was held up makes up for a little
/// only.
class Pace {
 public:
  Pace(double per_second, Time begin);
  /// When the next one was due, if it is; then moves on to the one after it.
  std::optional<Time> take(Time now);
  [[nodiscard]] Time next() const noexcept { return next_; }

 private:
  static constexpr std::chrono::milliseconds catch_up{50};
  std::chrono::steady_clock::duration period_;
  Time next_;
};

}  // namespace tandem::survival
