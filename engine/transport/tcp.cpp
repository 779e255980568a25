#include "engine/transport/tcp.hpp"

#include <netinet/tcp.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

namespace tandem::transport {
namespace {

using asio::ip::tcp;

Error lane_error(const boost::system::error_code& ec) {
  const bool ended = ec == asio::error::eof || ec == asio::error::operation_aborted ||
                     ec == asio::error::connection_reset || ec == asio::error::broken_pipe ||
                     ec == asio::error::bad_descriptor;
  return {ended ? Errc::closed : Errc::io, "connection to the peer: " + ec.message()};
}

class TcpLane final : public Lane {
 public:
  explicit TcpLane(tcp::socket socket) : socket_(std::move(socket)) {
    boost::system::error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
  }

  Task<Result<void>> send(std::span<const std::byte> first,
                          std::span<const std::byte> second) override {
    const std::array<asio::const_buffer, 2> buffers{asio::buffer(first.data(), first.size()),
                                                    asio::buffer(second.data(), second.size())};
    const auto [ec, n] = co_await asio::async_write(socket_, buffers, use_tuple);
    if (ec) co_return lane_error(ec);
    co_return Result<void>();
  }

  Task<Result<void>> receive(std::span<std::byte> into) override {
    const auto [ec, n] =
        co_await asio::async_read(socket_, asio::buffer(into.data(), into.size()), use_tuple);
    if (ec) co_return lane_error(ec);
    co_return Result<void>();
  }

  void close() noexcept override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  tcp::socket socket_;
};

}  // namespace

std::unique_ptr<Lane> make_tcp_lane(tcp::socket socket) {
  return std::make_unique<TcpLane>(std::move(socket));
}

Task<Result<tcp::socket>> connect_tcp(Endpoint endpoint, std::chrono::milliseconds timeout) {
  using namespace asio::experimental::awaitable_operators;
  const auto executor = co_await asio::this_coro::executor;
  const auto where = endpoint.host + ":" + std::to_string(endpoint.port);
  tcp::resolver resolver(executor);
  asio::steady_timer deadline(executor, timeout);
  auto resolving =
      co_await (resolver.async_resolve(endpoint.host, std::to_string(endpoint.port), use_tuple) ||
                deadline.async_wait(use_tuple));
  if (resolving.index() == 1)
    co_return Error{Errc::timed_out, where + ": no answer from the resolver"};
  auto& [resolve_error, addresses] = std::get<0>(resolving);
  if (resolve_error) {
    co_return Error{Errc::unavailable, "cannot resolve " + where + ": " + resolve_error.message()};
  }
  tcp::socket socket(executor);
  auto connecting = co_await (asio::async_connect(socket, addresses, use_tuple) ||
                              deadline.async_wait(use_tuple));
  if (connecting.index() == 1) co_return Error{Errc::timed_out, where + " does not answer"};
  const auto connect_error = std::get<0>(std::get<0>(connecting));
  if (connect_error) {
    co_return Error{Errc::unavailable,
                    "cannot connect to " + where + ": " + connect_error.message()};
  }
  co_return socket;
}

std::string local_address(const tcp::socket& socket) {
  boost::system::error_code ec;
  const auto endpoint = socket.local_endpoint(ec);
  return ec ? std::string() : endpoint.address().to_string();
}

tcp::socket move_to(tcp::socket socket, const asio::any_io_executor& executor) {
  const auto protocol = socket.local_endpoint().protocol();
  return tcp::socket(executor, protocol, socket.release());
}

}  // namespace tandem::transport
