// Runs one coroutine to its end, for a program that does one thing after the other.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <exception>
#include <optional>
#include <utility>

#include "base/asio.hpp"

namespace tandem::cli {

template <class T>
T run_task(Task<T> task) {
  asio::io_context context(1);
  std::optional<T> result;
  asio::co_spawn(context, std::move(task), [&](const std::exception_ptr& exception, T value) {
    if (exception) std::rethrow_exception(exception);
    result.emplace(std::move(value));
  });
  context.run();
  return std::move(*result);
}

}  // namespace tandem::cli
