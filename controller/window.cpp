#include "controller/window.hpp"

#include <algorithm>
#include <utility>

namespace tandem::controller {

void Window::add(const Observation& cycle, double length_s) {
  cycles_.push_back({cycle.time_s, cycle.pause_s, cycle.uptime_s});
  const auto outdated = [&](const Cycle& oldest) {
    // Later than now: the clock went back, and the cycle would never be old enough.
    return oldest.time_s < cycle.time_s - length_s || oldest.time_s > cycle.time_s;
  };
  while (cycles_.size() > cycles_max || outdated(cycles_.front())) cycles_.pop_front();
  sum_up();
}

void Window::clear() {
  cycles_.clear();
  sum_up();
}

void Window::keep(std::size_t count) {
  while (cycles_.size() > count) cycles_.pop_front();
  sum_up();
}

// Summed anew each time: a running sum would gather rounding errors for as long as the pair lives.
void Window::sum_up() {
  pause_s_ = uptime_s_ = 0;
  for (const auto& cycle : cycles_) {
    pause_s_ += cycle.pause_s;
    uptime_s_ += cycle.uptime_s;
  }
}

double Window::downtime_ratio() const noexcept {
  if (pause_s_ <= 0) return 0;
  if (uptime_s_ * downtime_ratio_max <= pause_s_) return downtime_ratio_max;
  return pause_s_ / uptime_s_;
}

double Window::checkpoints_per_second() const noexcept {
  const auto time_s = pause_s_ + uptime_s_;
  if (time_s <= 0) return 0;
  return std::min(static_cast<double>(cycles_.size()) / time_s, rate_max);
}

double Window::average_uptime() const noexcept {
  return cycles_.empty() ? 0 : uptime_s_ / static_cast<double>(cycles_.size());
}

void Window::restore(std::deque<Cycle> cycles) {
  cycles_ = std::move(cycles);
  sum_up();
}

}  // namespace tandem::controller
