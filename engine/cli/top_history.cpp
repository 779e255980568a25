#include "engine/cli/top_history.hpp"

#include <algorithm>
#include <cmath>

namespace tandem::cli {
namespace {

/// Later is no time of an observation; the number of a second fits any integer below it.
constexpr double time_max = 1e11;

bool is_sane(double value, double max) {
  return value >= 0 && value <= max;  // false for what is not a number
}

}  // namespace

TopHistory::Second& TopHistory::second(std::int64_t at) {
  auto& second = ring_[static_cast<std::size_t>(at % seconds)];
  if (second.at < at) second = Second{.at = at};
  return second;
}

void TopHistory::add(const Cycle& cycle) {
  if (!is_sane(cycle.time, time_max) || !is_sane(cycle.pause_s, time_max) ||
      !is_sane(cycle.uptime_s, time_max) || !is_sane(cycle.bytes, 1e18) ||
      !is_sane(cycle.downtime_ratio, 1e9)) {
    return;
  }
  const auto length = cycle.pause_s + cycle.uptime_s;
  const auto began =
      std::max({cycle.time - length, cycle.time - static_cast<double>(seconds), 0.0});
  const auto last = static_cast<std::int64_t>(cycle.time);
  for (auto at = static_cast<std::int64_t>(began); at <= last; ++at) {
    auto& here = second(at);
    if (here.at != at) continue;  // a cycle from long ago
    const auto from = std::max(began, static_cast<double>(at));
    const auto until = std::min(cycle.time, static_cast<double>(at + 1));
    here.bytes += length > 0 ? cycle.bytes * (until - from) / length : cycle.bytes;
    (cycle.colo ? here.colo_s : here.periodic_s) += until - from;
    here.downtime_ratio = std::max(here.downtime_ratio, cycle.downtime_ratio);
    here.pause_ms = std::max(here.pause_ms, cycle.pause_s * 1e3);
  }
}

std::vector<TopHistory::Cell> TopHistory::cells(double now, std::size_t count) const {
  std::vector<Cell> cells(count);
  if (count == 0 || !is_sane(now, time_max)) return cells;
  struct Sum {
    double bytes = 0, periodic_s = 0, colo_s = 0;
    int seconds = 0;
  };
  std::vector<Sum> sums(count);
  const auto length = static_cast<double>(seconds) / static_cast<double>(count);
  const auto last = std::floor(now / length);
  for (const auto& here : ring_) {
    if (here.at < 0) continue;
    const auto back = last - std::floor((static_cast<double>(here.at) + 0.5) / length);
    if (!(back >= 0 && back < static_cast<double>(count))) continue;
    const auto index = count - 1 - static_cast<std::size_t>(back);
    auto& cell = cells[index];
    auto& sum = sums[index];
    cell.downtime_ratio = std::max(cell.downtime_ratio, here.downtime_ratio);
    cell.pause_ms = std::max(cell.pause_ms, here.pause_ms);
    sum.bytes += here.bytes;
    sum.periodic_s += here.periodic_s;
    sum.colo_s += here.colo_s;
    ++sum.seconds;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto& sum = sums[i];
    if (sum.seconds == 0) continue;
    // Of the newest second, only a part may have been observed.
    const auto covered_s = sum.periodic_s + sum.colo_s;
    cells[i].bytes_per_s = sum.bytes / (covered_s > 0 ? covered_s : sum.seconds);
    cells[i].mode = sum.colo_s > sum.periodic_s ? Cell::Mode::colo : Cell::Mode::periodic;
  }
  return cells;
}

}  // namespace tandem::cli
