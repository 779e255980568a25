// The coroutine vocabulary that all of Tandem's I/O is written in.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tandem {

namespace asio = boost::asio;

/// A coroutine that runs on its io_context's thread.
template <class T = void>
using Task = asio::awaitable<T>;

/// Completion token: `auto [ec, n] = co_await socket.async_read_some(buffer, use_tuple);`, no
/// exceptions.
inline constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

}  // namespace tandem
