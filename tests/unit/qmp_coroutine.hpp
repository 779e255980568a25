// Runs a test that is a coroutine, and other coroutines beside it.
//
// Promises: a test fails when it does not end in time, and when anything it started (a reader, a
// socket, a timer) is still at work after it has ended.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/asio.hpp"

// ASSERT_* return, which a coroutine cannot.
#define CO_ASSERT(condition)                     \
  do {                                           \
    if (!(condition)) {                          \
      ADD_FAILURE() << "failed: " << #condition; \
      co_return;                                 \
    }                                            \
  } while (false)

// The same in a coroutine that returns something.
#define CO_ASSERT_RETURN(condition, value)       \
  do {                                           \
    if (!(condition)) {                          \
      ADD_FAILURE() << "failed: " << #condition; \
      co_return value;                           \
    }                                            \
  } while (false)

// For a Result: says the error.
#define CO_ASSERT_OK(result)                                        \
  do {                                                              \
    if (!(result)) {                                                \
      ADD_FAILURE() << #result << ": " << (result).error().message; \
      co_return;                                                    \
    }                                                               \
  } while (false)

namespace tandem::test {

/// Something that a test waits for, at most once.
class Signal {
 public:
  explicit Signal(asio::any_io_executor executor)
      : timer_(std::make_shared<asio::steady_timer>(executor,
                                                    asio::steady_timer::time_point::max())) {}
  void set() const { timer_->expires_at(asio::steady_timer::time_point::min()); }
  Task<void> wait() const {
    const auto timer = timer_;
    co_await timer->async_wait(use_tuple);
  }

 private:
  std::shared_ptr<asio::steady_timer> timer_;
};

/// A coroutine that runs on its own; result() waits for what it returned.
template <class T>
class Started {
 public:
  Started(asio::any_io_executor executor, Task<T> task)
      : state_(std::make_shared<State>(executor)) {
    asio::co_spawn(executor, std::move(task), [state = state_](std::exception_ptr thrown, T value) {
      if (thrown) std::rethrow_exception(thrown);
      state->value.emplace(std::move(value));
      state->done.set();
    });
  }
  [[nodiscard]] bool done() const { return state_->value.has_value(); }
  Task<T> result() const {
    const auto state = state_;
    auto waiting = state->done.wait();
    co_await std::move(waiting);
    co_return std::move(*state->value);
  }

 private:
  struct State {
    explicit State(const asio::any_io_executor& executor) : done(executor) {}
    std::optional<T> value;
    Signal done;
  };
  std::shared_ptr<State> state_;
};

template <class T>
Started<T> start(asio::any_io_executor executor, Task<T> task) {
  return Started<T>(std::move(executor), std::move(task));
}

/// Lets everything that is ready run once.
inline Task<void> settle() {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor, std::chrono::milliseconds(0));
  for (int round = 0; round < 8; ++round) {
    timer.expires_after(std::chrono::milliseconds(0));
    co_await timer.async_wait(use_tuple);
  }
}

/// A folder of its own for each test, short enough for the path of a unix socket.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = "/tmp/tandem-qmp-XXXXXX";
    if (::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

/// Runs `body`, a function that returns Task<void>, to its end and what it started too.
template <class Body>
void run(Body&& body, std::chrono::seconds limit = std::chrono::seconds(20)) {
  asio::io_context context;
  bool done = false;
  asio::co_spawn(context, std::forward<Body>(body)(), [&done](std::exception_ptr thrown) {
    if (thrown) std::rethrow_exception(thrown);
    done = true;
  });
  try {
    context.run_for(limit);
  } catch (const std::exception& thrown) {
    ADD_FAILURE() << "the test threw: " << thrown.what();
    return;
  }
  EXPECT_TRUE(done) << "the test did not end in time";
  EXPECT_TRUE(context.stopped()) << "something that the test started is still at work";
}

}  // namespace tandem::test
