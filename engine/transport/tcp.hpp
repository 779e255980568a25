// Lanes over TCP, with Nagle's algorithm off.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <string>

#include "engine/transport/lane.hpp"

namespace tandem::transport {

struct Endpoint {
  std::string host;  ///< address or name
  std::uint16_t port = 0;
};

/// "10.0.0.1:7070", "[fe80::1]:7070", "host.example:7070".
Result<Endpoint> parse_endpoint(std::string_view text);

/// Wraps a connected socket.
std::unique_ptr<Lane> make_tcp_lane(asio::ip::tcp::socket socket);

/// Connects on the calling coroutine's executor. Errc::unavailable (nobody listens), ::timed_out.
Task<Result<asio::ip::tcp::socket>> connect_tcp(Endpoint endpoint,
                                                std::chrono::milliseconds timeout);

/// The address of this side of a connected socket, "10.77.0.1"; empty if it is not connected any
/// more.
std::string local_address(const asio::ip::tcp::socket& socket);

/// Moves a socket to another io_context, where its lane will be used.
asio::ip::tcp::socket move_to(asio::ip::tcp::socket socket, const asio::any_io_executor& executor);

}  // namespace tandem::transport
