// When the guest's service of the benchmark of policies answers alike in both VMs, and when it
// does not. Pure.
#pragma once

#include <string_view>
#include <vector>

namespace tandem::bench {

/// What the service answers in a phase.
enum class Replies {
  deterministic,  ///< a function of the request: both VMs answer alike
  random          ///< random bytes: they never do
};
std::string_view to_string(Replies replies) noexcept;

/// A phase; times are in seconds since the first random phase began.
struct Span {
  Replies replies = Replies::deterministic;
  double from_s = 0, to_s = 0;

  [[nodiscard]] double length_s() const noexcept { return to_s - from_s; }
};

/// A lead of deterministic replies that is not counted, then cycles of a random phase and a
/// deterministic one.
struct Schedule {
  double lead_s = 10;
  double phase_s = 40;
  int cycles = 2;

  [[nodiscard]] double counted_s() const noexcept { return 2 * cycles * phase_s; }
  /// The phases that count, in order.
  [[nodiscard]] std::vector<Span> spans() const;
  /// Of a request that is due then.
  [[nodiscard]] Replies replies_at(double at_s) const noexcept;
};

}  // namespace tandem::bench
