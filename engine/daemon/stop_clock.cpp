#include "engine/daemon/stop_clock.hpp"

#include <algorithm>

namespace tandem::daemon {

void StopClock::restart(Time now, bool stopped) {
  spend_until(now);
  spent_until_ = now;
  begin_ = now;
  stopped_at_.reset();
  if (stopped) stopped_at_ = now;
  count_ = 0;
  total_ = longest_ = Milliseconds(0);
  samples_.clear();
  sorted_.clear();
}

void StopClock::halt(Time now) {
  spend_until(now);
  spent_until_.reset();
}

void StopClock::stopped(Time at) {
  if (stopped_at_) return;
  spend_until(at);
  stopped_at_ = at;
}

std::optional<StopClock::Milliseconds> StopClock::resumed(Time at) {
  if (!stopped_at_) return std::nullopt;
  spend_until(at);
  // The wall clock may have been set back meanwhile.
  const auto pause = std::max<Milliseconds>(at - *stopped_at_, Milliseconds(0));
  stopped_at_.reset();
  total_ += pause;
  longest_ = std::max(longest_, pause);
  if (samples_.size() < samples_max) {
    samples_.push_back(pause.count());
  } else {
    auto& oldest = samples_[count_ % samples_max];
    sorted_.erase(std::ranges::lower_bound(sorted_, oldest));
    oldest = pause.count();
  }
  sorted_.insert(std::ranges::lower_bound(sorted_, pause.count()), pause.count());
  ++count_;
  return pause;
}

double StopClock::stopped_ratio(Time now) const noexcept {
  const Milliseconds since = now - begin_;
  if (since.count() <= 0) return 0;
  auto stopped = total_;
  if (stopped_at_) stopped += now - *stopped_at_;
  return std::clamp(stopped / since, 0.0, 1.0);
}

nlohmann::json StopClock::to_json() const {
  const auto quantile = [&](double q) {
    return sorted_.empty()
               ? 0.0
               : sorted_[static_cast<std::size_t>(q * static_cast<double>(sorted_.size() - 1))];
  };
  return {{"count", count_},
          {"mean", count_ == 0 ? 0.0 : total_.count() / static_cast<double>(count_)},
          {"p50", quantile(0.5)},
          {"p99", quantile(0.99)},
          {"max", longest_.count()}};
}

void StopClock::spend_until(Time now) noexcept {
  spent_ = spent(now);
  if (spent_until_) spent_until_ = now;
}

StopClock::Spent StopClock::spent(Time now) const noexcept {
  auto spent = spent_;
  // The wall clock may have been set back; no time has passed then.
  if (!spent_until_ || now <= *spent_until_) return spent;
  (stopped_at_ ? spent.stopped : spent.running) += now - *spent_until_;
  return spent;
}

}  // namespace tandem::daemon
