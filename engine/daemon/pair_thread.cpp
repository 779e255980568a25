#include "engine/daemon/pair_thread.hpp"

namespace tandem::daemon {
namespace {

using std::chrono::steady_clock;
constexpr auto tick_interval = std::chrono::milliseconds(25);

}  // namespace

PairThread::PairThread()
    : work_(context_.get_executor()),
      timer_(context_),
      last_tick_(steady_clock::now().time_since_epoch().count()),
      thread_([this] {
        tick();
        context_.run();
      }) {}

void PairThread::stop() {
  context_.stop();
  if (thread_.joinable()) thread_.join();
}

void PairThread::tick() {
  last_tick_ = steady_clock::now().time_since_epoch().count();
  timer_.expires_after(tick_interval);
  timer_.async_wait([this](boost::system::error_code ec) {
    if (!ec) tick();
  });
}

std::chrono::milliseconds PairThread::idle_for() const noexcept {
  const steady_clock::time_point last{steady_clock::duration(last_tick_.load())};
  return std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - last);
}

}  // namespace tandem::daemon
