#include "engine/api/server.hpp"

#include <sys/stat.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <charconv>

namespace tandem::api {
namespace {

namespace http = boost::beast::http;
using asio::local::stream_protocol;

constexpr std::size_t body_bytes_max = 256u << 10;
constexpr std::size_t connections_max = 128;
constexpr auto request_limit = std::chrono::seconds(10);

http::response<http::string_body> respond(unsigned status, const nlohmann::json& body,
                                          unsigned version, bool keep_alive) {
  http::response<http::string_body> response(static_cast<http::status>(status), version);
  response.set(http::field::content_type, "application/json");
  // Names and messages may hold bytes that are not UTF-8; they must not make an answer impossible.
  response.body() = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  response.keep_alive(keep_alive);
  response.prepare_payload();
  return response;
}

nlohmann::json error_body(const Error& error) {
  return {{"error", {{"code", to_string(error.code)}, {"message", error.message}}}};
}

}  // namespace

unsigned http_status(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_input:
      return 400;
    case Errc::permission:
      return 403;
    case Errc::not_found:
      return 404;
    case Errc::conflict:
    case Errc::refused:
      return 409;
    case Errc::timed_out:
      return 504;
    case Errc::unavailable:
    case Errc::closed:
    case Errc::limit:
      return 503;
    case Errc::protocol:
    case Errc::io:
      return 500;
  }
  return 500;
}

Result<std::uint64_t> query_number(const Request& request, std::string_view key,
                                   std::uint64_t otherwise, std::uint64_t max) {
  std::string_view rest = request.query;
  while (!rest.empty()) {
    const auto pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    const auto equals = pair.find('=');
    if (equals == std::string_view::npos || pair.substr(0, equals) != key) continue;
    const auto digits = pair.substr(equals + 1);
    std::uint64_t value = 0;
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (ec == std::errc{} && end == digits.data() + digits.size() && value <= max) return value;
    return Error{Errc::invalid_input, "\"" + std::string(key) + "\" is \"" + std::string(digits) +
                                          "\"; expected a whole number up to " +
                                          std::to_string(max)};
  }
  return otherwise;
}

class Server::Impl : public std::enable_shared_from_this<Server::Impl> {
 public:
  Impl(stream_protocol::acceptor acceptor, std::filesystem::path socket, Handler handler)
      : acceptor_(std::move(acceptor)), socket_(std::move(socket)), handler_(std::move(handler)) {}

  Task<void> serve() {
    const auto self = shared_from_this();
    for (;;) {
      auto [ec, connection] = co_await acceptor_.async_accept(use_tuple);
      if (ec == asio::error::operation_aborted || !acceptor_.is_open()) co_return;
      if (ec) continue;
      if (connections_ >= connections_max) continue;  // closes it
      asio::co_spawn(acceptor_.get_executor(), converse(std::move(connection)), asio::detached);
    }
  }

  void close() {
    boost::system::error_code ignored;
    if (!acceptor_.is_open()) return;
    acceptor_.close(ignored);
    std::error_code also_ignored;
    std::filesystem::remove(socket_, also_ignored);
  }

 private:
  Task<void> converse(stream_protocol::socket connection) {
    using namespace asio::experimental::awaitable_operators;
    const auto self = shared_from_this();
    ++connections_;
    boost::beast::flat_buffer buffer(body_bytes_max + 65536);
    asio::steady_timer deadline(connection.get_executor());
    for (bool keep_alive = true; keep_alive;) {
      http::request_parser<http::string_body> parser;
      parser.body_limit(body_bytes_max);
      deadline.expires_after(request_limit);
      const auto read = co_await (http::async_read(connection, buffer, parser, use_tuple) ||
                                  deadline.async_wait(use_tuple));
      if (read.index() == 1 || std::get<0>(std::get<0>(read))) break;
      const auto& request = parser.get();
      keep_alive = request.keep_alive();
      auto answered = co_await answer(request);
      const auto status = answered ? 200u : http_status(answered.error().code);
      const auto body = answered ? std::move(*answered) : error_body(answered.error());
      const auto response = respond(status, body, request.version(), keep_alive);
      deadline.expires_after(request_limit);
      const auto written = co_await (http::async_write(connection, response, use_tuple) ||
                                     deadline.async_wait(use_tuple));
      if (written.index() == 1 || std::get<0>(std::get<0>(written))) break;
    }
    --connections_;
  }

  Task<Result<nlohmann::json>> answer(const http::request<http::string_body>& message) {
    Request request;
    request.method = std::string(message.method_string());
    const std::string target(message.target());
    const auto question = target.find('?');
    request.path = target.substr(0, question);
    if (question != std::string::npos) request.query = target.substr(question + 1);
    if (!message.body().empty()) {
      request.body = nlohmann::json::parse(message.body(), nullptr, false);
      if (!request.body.is_object()) {
        co_return Error{Errc::invalid_input, "the body is not a JSON object"};
      }
    }
    co_return co_await handler_(std::move(request));
  }

  stream_protocol::acceptor acceptor_;
  std::filesystem::path socket_;
  Handler handler_;
  std::size_t connections_ = 0;
};

Server::Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() {
  close();
}
Task<void> Server::serve() {
  return impl_->serve();
}
void Server::close() {
  impl_->close();
}

Result<std::shared_ptr<Server>> Server::listen(const asio::any_io_executor& executor,
                                               std::filesystem::path socket, Handler handler) {
  constexpr std::size_t path_max = 107;
  if (socket.native().size() > path_max) {
    return Error{Errc::invalid_input, "the socket path " + socket.string() + " is longer than " +
                                          std::to_string(path_max) + " characters"};
  }
  const stream_protocol::endpoint endpoint(socket.string());
  boost::system::error_code ec;
  {
    stream_protocol::socket probe(executor);
    probe.connect(endpoint, ec);
    if (!ec) return Error{Errc::conflict, "another daemon listens on " + socket.string()};
  }
  std::error_code ignored;
  std::filesystem::remove(socket, ignored);
  stream_protocol::acceptor acceptor(executor);
  acceptor.open(endpoint.protocol(), ec);
  const auto old_mask = ::umask(0177);
  if (!ec) acceptor.bind(endpoint, ec);
  ::umask(old_mask);
  if (!ec) acceptor.listen(64, ec);
  if (ec) return system_error("cannot listen on " + socket.string(), ec.value());
  return std::shared_ptr<Server>(new Server(
      std::make_shared<Impl>(std::move(acceptor), std::move(socket), std::move(handler))));
}

}  // namespace tandem::api
