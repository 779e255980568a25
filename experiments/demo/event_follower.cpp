#include "experiments/demo/event_follower.hpp"

namespace tandem::demo {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kEventsPerHost = 10000;
constexpr milliseconds kPoll{400};
constexpr milliseconds kAnswerTimeout{2000};
constexpr milliseconds kBetweenAttempts{50};

}  // namespace

EventFollower::~EventFollower() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void EventFollower::follow(const std::string& host, api::ApiClient client) {
  threads_.emplace_back([this, host, client = std::move(client)] { run(host, client); });
}

std::vector<DaemonEvent> EventFollower::all() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

std::vector<DaemonEvent> EventFollower::take_new() {
  const std::lock_guard lock(mutex_);
  std::vector<DaemonEvent> fresh(events_.begin() + static_cast<std::ptrdiff_t>(taken_),
                                 events_.end());
  taken_ = events_.size();
  return fresh;
}

void EventFollower::run(const std::string& host, const api::ApiClient& client) {
  std::uint64_t after = 0;
  double last_time = 0;
  // After a restart the daemon numbers its events anew; then all are asked for and the old ones
  // left out.
  bool from_start = true;
  std::size_t kept = 0;
  while (!stopping_ && kept < kEventsPerHost) {
    const auto answer = client.get(
        "/v1/events?after=" + std::to_string(after) + "&wait_ms=" + std::to_string(kPoll.count()),
        kAnswerTimeout);
    std::unique_lock lock(mutex_);
    if (!answer) {
      after = 0;
      from_start = true;
      stopped_.wait_for(lock, kBetweenAttempts, [this] { return stopping_.load(); });
      continue;
    }
    const double known = from_start ? last_time : 0;
    for (auto& event : events_from_json(host, *answer)) {
      if (event.time <= known) continue;
      last_time = std::max(last_time, event.time);
      events_.push_back(std::move(event));
      ++kept;
    }
    from_start = false;
    if (const auto next = count_at(*answer, "/next")) after = *next;
  }
}

}  // namespace tandem::demo
