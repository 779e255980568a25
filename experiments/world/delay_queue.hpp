// One direction of a long and lossy path: frames come out in order, each a fixed time after it went
// in, but for those that are lost.
//
// Pure: the time is an argument, and what is lost follows from the seed.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

namespace tandem::world {

struct DelayOptions {
  std::chrono::microseconds delay{0};  ///< of every frame
  double loss = 0;                     ///< share of the frames that are lost, 0 to 1
  std::uint64_t seed = 1;
  std::size_t bytes_max = 32u << 20;  ///< on their way at once; beyond, frames are dropped
};

struct DelayCounters {
  std::uint64_t frames = 0;   ///< that went in
  std::uint64_t lost = 0;     ///< as the options ask for
  std::uint64_t dropped = 0;  ///< for want of room
  std::uint64_t with_sack = 0;
};

class DelayQueue {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit DelayQueue(const DelayOptions& options);

  void push(std::span<const std::byte> frame, Time now);
  /// The next frame, if its time has come; empty otherwise. Valid until pop().
  [[nodiscard]] std::span<const std::byte> front(Time now) const;
  void pop();
  [[nodiscard]] std::optional<Time> due() const;
  [[nodiscard]] const DelayCounters& counters() const noexcept { return counters_; }

 private:
  struct Entry {
    Time due;
    std::vector<std::byte> frame;
  };
  DelayOptions options_;
  std::uint64_t random_;
  std::uint64_t loses_below_;
  std::deque<Entry> entries_;
  std::size_t bytes_ = 0;
  DelayCounters counters_;
};

/// Whether an Ethernet frame is a TCP segment over IPv4 that carries SACK blocks.
bool carries_sack(std::span<const std::byte> frame) noexcept;

}  // namespace tandem::world
