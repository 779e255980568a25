// What was observed of a VM in the last minutes, second by second: what `tandem top` draws its
// sparklines from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem::cli {

class TopHistory {
 public:
  static constexpr std::int64_t seconds = 180;

  /// One cycle of the pair, which ended at `time`, in Unix seconds. Where numbers make no sense, it
  /// is left out.
  struct Cycle {
    double time = 0, pause_s = 0, uptime_s = 0, bytes = 0, downtime_ratio = 0;
    bool colo = false;
  };
  void add(const Cycle& cycle);

  /// A part of the time; negative: nothing is known of it.
  struct Cell {
    double downtime_ratio = -1, pause_ms = -1;  ///< the largest
    double bytes_per_s = -1;
    enum class Mode { unknown, periodic, colo } mode = Mode::unknown;  ///< for most of the time

    friend bool operator==(const Cell&, const Cell&) = default;
  };
  /// The time until `now` in so many equal parts, oldest first. The last one has just begun or is
  /// about to end: parts stay where they are while time goes on.
  [[nodiscard]] std::vector<Cell> cells(double now, std::size_t count) const;

 private:
  struct Second {
    std::int64_t at = -1;
    double downtime_ratio = 0, pause_ms = 0, bytes = 0, periodic_s = 0, colo_s = 0;
  };
  [[nodiscard]] Second& second(std::int64_t at);

  std::array<Second, seconds> ring_{};
};

}  // namespace tandem::cli
