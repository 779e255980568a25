// The moving window over a pair's latest cycles: downtime ratio and checkpoints per second.
#pragma once

#include <cstddef>
#include <deque>

#include "controller/observation.hpp"

namespace tandem::controller {

class Window {
 public:
  /// More cycles than this are never kept, however short they are.
  static constexpr std::size_t cycles_max = 512;

  /// Takes a cycle in, and drops what ended longer than `length_s` before it, or after it.
  void add(const Observation& cycle, double length_s);
  void clear();
  /// Drops the oldest until `count` are left.
  void keep(std::size_t count);

  /// ρ: average pause over average uptime; 0 for an empty window, downtime_ratio_max at most.
  [[nodiscard]] double downtime_ratio() const noexcept;
  /// Cycles over the time they took; 0 for an empty window or no time, rate_max at most.
  [[nodiscard]] double checkpoints_per_second() const noexcept;
  /// Seconds; 0 for an empty window.
  [[nodiscard]] double average_uptime() const noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return cycles_.size(); }

  struct Cycle {
    double time_s = 0, pause_s = 0, uptime_s = 0;
    friend bool operator==(const Cycle&, const Cycle&) = default;
  };
  [[nodiscard]] const std::deque<Cycle>& cycles() const noexcept { return cycles_; }
  /// Puts back what cycles() said.
  void restore(std::deque<Cycle> cycles);

  friend bool operator==(const Window& a, const Window& b) { return a.cycles_ == b.cycles_; }

  /// Instead of the infinity of a VM that never ran.
  static constexpr double downtime_ratio_max = 1000;
  /// Keeps the rate of cycles that took next to no time finite.
  static constexpr double rate_max = 1e6;

 private:
  void sum_up();

  std::deque<Cycle> cycles_;
  double pause_s_ = 0, uptime_s_ = 0;  ///< sums over cycles_
};

}  // namespace tandem::controller
