// Tells silence from slowness: the peer counts as lost when nothing came from it for a whole
// timeout while this daemon was awake to hear it.
#pragma once

#include <chrono>

namespace tandem::session {

/// Pure. tick() is called every `interval`; a daemon that was itself frozen has missed ticks, not
/// heard silence, and gives the bytes that wait in its sockets the chance to be read first.
class FailureDetector {
 public:
  FailureDetector(std::chrono::milliseconds timeout, std::chrono::milliseconds interval)
      : ticks_max_(timeout / interval) {}

  void heard() noexcept { silent_ticks_ = 0; }
  /// True once the peer has been silent for the timeout.
  bool tick() noexcept { return ++silent_ticks_ > ticks_max_; }
  [[nodiscard]] std::chrono::milliseconds::rep silent_ticks() const noexcept {
    return silent_ticks_;
  }

 private:
  std::chrono::milliseconds::rep ticks_max_;
  std::chrono::milliseconds::rep silent_ticks_ = 0;
};

}  // namespace tandem::session
