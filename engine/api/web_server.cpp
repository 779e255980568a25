#include "engine/api/web_server.hpp"

#include <time.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "engine/api/conversation.hpp"

namespace tandem::api {
namespace {

using asio::ip::tcp;

/// What is answered here has no body; a small one is read, so that its sender hears why not.
constexpr ConversationLimits limits{.body_bytes_max = 4u << 10};
constexpr std::size_t connections_max = 64;

/// HTTP's form of the present time.
std::string date() {
  const auto now = ::time(nullptr);
  tm utc{};
  ::gmtime_r(&now, &utc);
  char text[40];
  const auto length = ::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return {text, length};
}

HttpResponse respond(unsigned status, std::string content_type, std::string body) {
  HttpResponse response;
  response.result(status);
  response.set(http::field::content_type, std::move(content_type));
  response.set(http::field::date, date());
  response.set(http::field::cache_control, "no-store");
  response.set("Content-Security-Policy",
               "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  response.set("Cross-Origin-Opener-Policy", "same-origin");
  response.set("Cross-Origin-Resource-Policy", "same-origin");
  response.set("Referrer-Policy", "no-referrer");
  response.set("X-Content-Type-Options", "nosniff");
  response.set("X-Frame-Options", "DENY");
  response.body() = std::move(body);
  return response;
}

HttpResponse refuse(unsigned status, Errc code, std::string message) {
  return respond(status, "application/json", to_text(error_body({code, std::move(message)})));
}

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

bool is_address(const std::string& text) {
  boost::system::error_code ec;
  (void)asio::ip::make_address(text, ec);
  return !ec;
}

}  // namespace

bool is_own_host(std::string_view header, const std::vector<std::string>& names) {
  auto host = header;
  if (host.starts_with('[')) {
    const auto end = host.find(']');
    return end != std::string_view::npos && is_address(std::string(host.substr(1, end - 1)));
  }
  host = host.substr(0, host.find(':'));
  if (host.ends_with('.')) host.remove_suffix(1);
  if (is_address(std::string(host)) || same_letters(host, "localhost")) return true;
  return std::ranges::any_of(names, [&](const auto& name) { return same_letters(host, name); });
}

class WebServer::Impl : public std::enable_shared_from_this<WebServer::Impl> {
 public:
  Impl(tcp::acceptor acceptor, std::vector<std::string> names, Handler handler)
      : acceptor_(std::move(acceptor)), names_(std::move(names)), handler_(std::move(handler)) {}

  Task<void> serve() {
    const auto self = shared_from_this();
    for (;;) {
      auto [ec, connection] = co_await acceptor_.async_accept(use_tuple);
      if (ec == asio::error::operation_aborted || !acceptor_.is_open()) co_return;
      if (ec || connections_ >= connections_max) continue;  // closes it
      connection.set_option(tcp::no_delay(true), ec);
      asio::co_spawn(acceptor_.get_executor(), serve_one(std::move(connection)), asio::detached);
    }
  }

  void close() {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
  }

  [[nodiscard]] tcp::endpoint address() const {
    boost::system::error_code ignored;
    return acceptor_.local_endpoint(ignored);
  }

 private:
  Task<void> serve_one(tcp::socket connection) {
    const auto self = shared_from_this();
    ++connections_;
    auto answer = [this](const HttpRequest& request) { return respond_to(request); };
    auto refuse_unread = [](unsigned status) {
      return refuse(status, Errc::invalid_input,
                    status == 413 ? "a request here needs no body" : "the request cannot be read");
    };
    co_await converse(std::move(connection), limits, answer, refuse_unread);
    --connections_;
  }

  Task<HttpResponse> respond_to(const HttpRequest& message) {
    const auto host = message[http::field::host];
    const std::string_view name(host.data(), host.size());
    if (!is_own_host(name, names_)) {
      co_return refuse(421, Errc::refused,
                       "this server is not known as \"" + std::string(name) +
                           "\": ask it by its address, or add the name to web.names");
    }
    if (message.method() != http::verb::get && message.method() != http::verb::head) {
      auto response = refuse(405, Errc::refused, "only GET and HEAD are answered here");
      response.set(http::field::allow, "GET, HEAD");
      co_return response;
    }
    auto answered = co_await handler_(request_line("GET", message.target()));
    if (!answered) {
      const auto& error = answered.error();
      co_return refuse(http_status(error.code), error.code, error.message);
    }
    co_return respond(200, std::move(answered->content_type), std::move(answered->body));
  }

  tcp::acceptor acceptor_;
  std::vector<std::string> names_;
  Handler handler_;
  std::size_t connections_ = 0;
};

WebServer::WebServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
WebServer::~WebServer() {
  close();
}
Task<void> WebServer::serve() {
  return impl_->serve();
}
void WebServer::close() {
  impl_->close();
}
tcp::endpoint WebServer::address() const {
  return impl_->address();
}

Result<std::shared_ptr<WebServer>> WebServer::listen(const asio::any_io_executor& executor,
                                                     const tcp::endpoint& address,
                                                     std::vector<std::string> names,
                                                     Handler handler) {
  tcp::acceptor acceptor(executor);
  boost::system::error_code ec;
  acceptor.open(address.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(address, ec);
  if (!ec) acceptor.listen(64, ec);
  if (ec) {
    const auto host = address.address().is_v6() ? "[" + address.address().to_string() + "]"
                                                : address.address().to_string();
    return system_error("cannot listen on " + host + ":" + std::to_string(address.port()),
                        ec.value());
  }
  return std::shared_ptr<WebServer>(new WebServer(
      std::make_shared<Impl>(std::move(acceptor), std::move(names), std::move(handler))));
}

}  // namespace tandem::api
