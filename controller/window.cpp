#include "controller/window.hpp"

#include <algorithm>
#include <utility>

namespace tandem::controller {
namespace {

struct Sums {
  double pause_s = 0, uptime_s = 0;
};

// Summed anew each time: a running sum would gather rounding errors for as long as the pair lives.
Sums sums(const std::deque<Window::Cycle>& cycles) noexcept {
  Sums sums;
  for (const auto& cycle : cycles) {
    sums.pause_s += cycle.pause_s;
    sums.uptime_s += cycle.uptime_s;
  }
  return sums;
}

}  // namespace

void Window::add(const Observation& cycle, double length_s) {
  cycles_.push_back({cycle.time_s, cycle.pause_s, cycle.uptime_s});
  const auto outdated = [&](const Cycle& oldest) {
    // Later than now: the clock went back, and the cycle would never be old enough.
    return oldest.time_s < cycle.time_s - length_s || oldest.time_s > cycle.time_s;
  };
  while (cycles_.size() > cycles_max || outdated(cycles_.front())) cycles_.pop_front();
}

void Window::clear() {
  cycles_.clear();
}

void Window::keep(std::size_t count) {
  while (cycles_.size() > count) cycles_.pop_front();
}

double Window::downtime_ratio() const noexcept {
  const auto [pause_s, uptime_s] = sums(cycles_);
  if (pause_s <= 0) return 0;
  if (uptime_s * downtime_ratio_max <= pause_s) return downtime_ratio_max;
  return pause_s / uptime_s;
}

double Window::checkpoints_per_second() const noexcept {
  const auto [pause_s, uptime_s] = sums(cycles_);
  const auto time_s = pause_s + uptime_s;
  if (time_s <= 0) return 0;
  return std::min(static_cast<double>(cycles_.size()) / time_s, rate_max);
}

double Window::average_uptime() const noexcept {
  return cycles_.empty() ? 0 : sums(cycles_).uptime_s / static_cast<double>(cycles_.size());
}

void Window::restore(std::deque<Cycle> cycles) {
  cycles_ = std::move(cycles);
}

}  // namespace tandem::controller
