// The client's book: which writes it sent, which were acknowledged and when, and which of those the
// service still knows. It does no I/O, so that the count of losses can be tested by itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "experiments/demo/resp.hpp"

namespace tandem::demo {

using Time = std::chrono::steady_clock::time_point;

/// Writes are numbered from 1 and answered in order, as redis does on one connection. Write n sets
/// the key key_of(n) to value_of(n).
class WriteLedger {
 public:
  explicit WriteLedger(std::size_t window) : window_(window) {}

  static std::string key_of(std::uint64_t n) { return "k:" + std::to_string(n); }
  static std::string value_of(std::uint64_t n) { return std::to_string(n); }

  [[nodiscard]] bool may_send() const noexcept { return outstanding() < window_; }
  [[nodiscard]] std::size_t outstanding() const noexcept { return sent_ - answered_; }
  /// Counts one more write as sent, and returns its number.
  std::uint64_t send() noexcept { return ++sent_; }

  /// Notes the answer to the oldest unanswered write. Errc::protocol for an answer to nothing;
  /// Errc::refused for one that is not OK (the write does not count as acknowledged).
  Result<void> answer(Time when, const RespValue& reply);

  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }
  [[nodiscard]] const std::vector<std::uint64_t>& acknowledged() const noexcept {
    return acknowledged_;
  }
  /// When the answers came, in order.
  [[nodiscard]] const std::vector<Time>& answer_times() const noexcept { return times_; }

 private:
  std::size_t window_;
  std::uint64_t sent_ = 0, answered_ = 0;
  std::vector<std::uint64_t> acknowledged_;
  std::vector<Time> times_;
};

/// Compares what the service says afterwards with what it had acknowledged. Every acknowledged
/// write counts as lost until the service has shown it: one that nobody could ask for is not there.
class ReadBack {
 public:
  explicit ReadBack(std::vector<std::uint64_t> acknowledged) : keys_(std::move(acknowledged)) {}

  /// The number of the next write to ask for, in order; nothing when all were asked for.
  std::optional<std::uint64_t> ask() noexcept;
  /// Starts asking again behind the last answer, on a new connection.
  void restart() noexcept { asked_ = checked_; }
  /// Notes the answer to the oldest unanswered question. Errc::protocol for an answer to none.
  Result<void> answer(const RespValue& reply);

  [[nodiscard]] std::size_t outstanding() const noexcept { return asked_ - checked_; }
  [[nodiscard]] bool complete() const noexcept { return checked_ == keys_.size(); }
  [[nodiscard]] std::uint64_t lost() const noexcept { return keys_.size() - intact_; }
  /// Writes that the service answered for with something else, the first few.
  [[nodiscard]] const std::vector<std::uint64_t>& examples() const noexcept { return examples_; }

 private:
  std::vector<std::uint64_t> keys_;
  std::size_t asked_ = 0, checked_ = 0;
  std::uint64_t intact_ = 0;
  std::vector<std::uint64_t> examples_;
};

/// The longest time between two consecutive answers of which some part lies after `from`. A client
/// that still waits for an answer waits until `waiting_until`. Zero if nothing came or was waited
/// for after.
std::chrono::nanoseconds longest_silence(std::span<const Time> answers, Time from,
                                         std::optional<Time> waiting_until);

/// The first answer that came at `from` or later.
std::optional<Time> first_answer(std::span<const Time> answers, Time from);

}  // namespace tandem::demo
