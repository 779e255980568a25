// Lets coroutines of one io_context wait for "something has changed" without a queue or a lock.
#pragma once

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>

#include "base/asio.hpp"

namespace tandem {

/// notify() wakes every coroutine that waits now; it is not remembered, so a waiter checks its
/// condition before each wait. Single-threaded.
class Signal {
 public:
  explicit Signal(const asio::any_io_executor& executor)
      : timer_(executor, asio::steady_timer::time_point::max()) {}

  Task<void> wait() { co_await timer_.async_wait(use_tuple); }
  /// Returns when notified, or after `limit`.
  Task<void> wait_for(std::chrono::milliseconds limit) {
    using namespace asio::experimental::awaitable_operators;
    asio::steady_timer deadline(timer_.get_executor(), limit);
    co_await (wait() || deadline.async_wait(use_tuple));
  }
  void notify() { timer_.cancel(); }

 private:
  asio::steady_timer timer_;
};

}  // namespace tandem
