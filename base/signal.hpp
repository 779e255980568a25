// Lets coroutines of one io_context wait for "something has changed" without a queue or a lock.
#pragma once

#include <boost/asio/steady_timer.hpp>

#include "base/asio.hpp"

namespace tandem {

/// notify() wakes every coroutine that waits now; it is not remembered, so a waiter checks its
/// condition before each wait. Single-threaded.
class Signal {
 public:
  explicit Signal(const asio::any_io_executor& executor)
      : timer_(executor, asio::steady_timer::time_point::max()) {}

  Task<void> wait() { co_await timer_.async_wait(use_tuple); }
  void notify() { timer_.cancel(); }

 private:
  asio::steady_timer timer_;
};

}  // namespace tandem
