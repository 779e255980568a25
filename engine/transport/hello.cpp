#include "engine/transport/hello.hpp"

#include <array>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>

namespace tandem::transport {
namespace {

Task<Result<std::string>> converse(Lane& lane, wire::LaneKind kind, std::string json) {
  const auto hello = wire::encode_hello(kind, json);
  auto done = co_await lane.send(hello);
  if (!done) co_return done.error();
  std::array<std::byte, wire::hello_header_size> bytes{};
  done = co_await lane.receive(bytes);
  if (!done && done.error().code == Errc::closed) {
    co_return Error{Errc::protocol, "it hung up instead of answering"};
  }
  if (!done) co_return done.error();
  const auto answer = wire::decode_hello_answer(bytes);
  if (!answer) co_return answer.error();
  std::string text(answer->text_length, '\0');
  done = co_await lane.receive(std::as_writable_bytes(std::span(text)));
  if (!done) co_return done.error();
  if (answer->status == wire::HelloStatus::refused) {
    co_return Error{Errc::refused, "it refuses: " + text};
  }
  co_return text;
}

}  // namespace

Task<Result<std::string>> say_hello(Lane& lane, wire::LaneKind kind, std::string json,
                                    std::chrono::milliseconds timeout) {
  using namespace asio::experimental::awaitable_operators;
  asio::steady_timer deadline(co_await asio::this_coro::executor, timeout);
  auto spoken = co_await (converse(lane, kind, std::move(json)) || deadline.async_wait(use_tuple));
  if (spoken.index() == 1) {
    co_return Error{Errc::timed_out, "it accepts a connection, but says nothing"};
  }
  co_return std::get<0>(std::move(spoken));
}

}  // namespace tandem::transport
