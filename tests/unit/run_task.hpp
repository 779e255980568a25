// Runs coroutines of a test to their end.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <exception>
#include <optional>

#include "base/asio.hpp"

namespace tandem::test {

/// Runs what is on `io` until nothing is left to do; a test that would wait for ever fails instead.
inline void run(asio::io_context& io, std::chrono::seconds limit = std::chrono::seconds(20)) {
  io.restart();
  io.run_for(limit);
  if (!io.stopped()) ADD_FAILURE() << "a coroutine still waits after " << limit.count() << " s";
}

inline void rethrow(const std::exception_ptr& exception) {
  if (exception) std::rethrow_exception(exception);
}

/// The result of one coroutine that needs nothing else.
template <class T>
T result_of(asio::io_context& io, Task<T> task) {
  std::optional<T> result;
  asio::co_spawn(io, std::move(task), [&](std::exception_ptr exception, T value) {
    rethrow(exception);
    result.emplace(std::move(value));
  });
  run(io);
  return std::move(result).value();
}

template <class T>
T result_of(Task<T> task) {
  asio::io_context io;
  return result_of(io, std::move(task));
}

}  // namespace tandem::test
