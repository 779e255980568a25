#include "engine/api/server.hpp"

#include <sys/stat.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <charconv>

#include "engine/api/conversation.hpp"

namespace tandem::api {
namespace {

using asio::local::stream_protocol;

constexpr ConversationLimits limits{};
constexpr std::size_t connections_max = 128;

HttpResponse respond(unsigned status, const nlohmann::json& body) {
  HttpResponse response;
  response.result(status);
  response.set(http::field::content_type, "application/json");
  response.body() = to_text(body);
  return response;
}

}  // namespace

std::string to_text(const nlohmann::json& body) {
  // Names and messages may hold bytes that are not UTF-8; they must not make an answer impossible.
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

nlohmann::json error_body(const Error& error) {
  return {{"error", {{"code", to_string(error.code)}, {"message", error.message}}}};
}

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

Request request_line(std::string_view method, std::string_view target) {
  Request request;
  request.method = method;
  const auto question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  return request;
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
      asio::co_spawn(acceptor_.get_executor(), serve_one(std::move(connection)), asio::detached);
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
  Task<void> serve_one(stream_protocol::socket connection) {
    const auto self = shared_from_this();
    ++connections_;
    auto answer = [this](const HttpRequest& request) { return respond_to(request); };
    auto refuse = [](unsigned status) {
      return respond(status, error_body({Errc::invalid_input, "the request cannot be read"}));
    };
    co_await converse(std::move(connection), limits, answer, refuse);
    --connections_;
  }

  Task<HttpResponse> respond_to(const HttpRequest& request) {
    const auto answered = co_await answer(request);
    if (answered) co_return respond(200, *answered);
    co_return respond(http_status(answered.error().code), error_body(answered.error()));
  }

  Task<Result<nlohmann::json>> answer(const HttpRequest& message) {
    auto request = request_line(message.method_string(), message.target());
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
