#include "engine/daemon/stop_clock.hpp"

#include <algorithm>

namespace tandem::daemon {

void StopClock::restart(Time now, bool stopped) {
  *this = {};
  begin_ = now;
  if (stopped) stopped_at_ = now;
}

void StopClock::stopped(Time at) {
  if (!stopped_at_) stopped_at_ = at;
}

void StopClock::resumed(Time at) {
  if (!stopped_at_) return;
  const Milliseconds pause = at - *stopped_at_;
  stopped_at_.reset();
  total_ += pause;
  longest_ = std::max(longest_, pause);
  if (samples_.size() < samples_max) {
    samples_.push_back(pause.count());
  } else {
    samples_[count_ % samples_max] = pause.count();
  }
  ++count_;
}

double StopClock::stopped_ratio(Time now) const noexcept {
  const Milliseconds since = now - begin_;
  if (since.count() <= 0) return 0;
  auto stopped = total_;
  if (stopped_at_) stopped += now - *stopped_at_;
  return std::clamp(stopped / since, 0.0, 1.0);
}

nlohmann::json StopClock::to_json() const {
  auto sorted = samples_;
  std::ranges::sort(sorted);
  const auto quantile = [&](double q) {
    return sorted.empty()
               ? 0.0
               : sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1))];
  };
  return {{"count", count_},
          {"mean", count_ == 0 ? 0.0 : total_.count() / static_cast<double>(count_)},
          {"p50", quantile(0.5)},
          {"p99", quantile(0.99)},
          {"max", longest_.count()}};
}

}  // namespace tandem::daemon
