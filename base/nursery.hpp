// Child coroutines that must have ended before the object they work on may go.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <cstddef>
#include <exception>

#include "base/asio.hpp"
#include "base/signal.hpp"

namespace tandem {

/// Starts coroutines on one io_context and waits for their end. An exception in a child is a broken
/// invariant and leaves io_context::run. Single-threaded; outlives its children.
class Nursery {
 public:
  explicit Nursery(asio::any_io_executor executor)
      : executor_(std::move(executor)), ended_(executor_) {}

  void spawn(Task<void> child) {
    ++children_;
    asio::co_spawn(executor_, std::move(child), [this](const std::exception_ptr& exception) {
      --children_;
      ended_.notify();
      if (exception) std::rethrow_exception(exception);
    });
  }

  Task<void> wait_for_all() {
    while (children_ > 0) co_await ended_.wait();
  }

  [[nodiscard]] std::size_t size() const noexcept { return children_; }

 private:
  asio::any_io_executor executor_;
  Signal ended_;
  std::size_t children_ = 0;
};

}  // namespace tandem
