// How long a VM was stopped, from QEMU's STOP and RESUME events and their time stamps.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace tandem::daemon {

/// Pure. The newest pauses are kept for percentiles, all count for mean and maximum. Kept in order,
/// so that asking costs nothing however often somebody looks.
class StopClock {
 public:
  using Time = std::chrono::system_clock::time_point;
  using Milliseconds = std::chrono::duration<double, std::milli>;
  using Seconds = std::chrono::duration<double>;

  /// Forgets all pauses and counts from `now`, when the VM is (or is not) stopped.
  void restart(Time now, bool stopped);
  /// The VM's process has ended: until restart() no time passes.
  void halt(Time now);
  void stopped(Time at);
  /// The pause that ends here, if one does.
  std::optional<Milliseconds> resumed(Time at);

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// Share of the time since restart() in which the VM was stopped, 0 to 1.
  [[nodiscard]] double stopped_ratio(Time now) const noexcept;
  /// {"count","mean","p50","p99","max"}, milliseconds.
  [[nodiscard]] nlohmann::json to_json() const;

  /// Time of the VM's processes, whatever was restarted.
  struct Spent {
    Seconds running{0}, stopped{0};
  };
  [[nodiscard]] Spent spent(Time now) const noexcept;

 private:
  static constexpr std::size_t samples_max = 4096;

  void spend_until(Time now) noexcept;

  Time begin_{};
  std::optional<Time> stopped_at_;
  std::uint64_t count_ = 0;
  Milliseconds total_{0}, longest_{0};
  std::vector<double> samples_;  ///< a ring once it is full
  std::vector<double> sorted_;   ///< the same

  Spent spent_;
  std::optional<Time> spent_until_;  ///< null while there is no process
};

}  // namespace tandem::daemon
