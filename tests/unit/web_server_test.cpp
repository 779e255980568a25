// The web port: who is answered, with what, and what is refused. Real sockets on the loopback.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <mutex>
#include <thread>

#include "engine/api/web_server.hpp"
#include "engine/web/embedded_files.hpp"
#include "engine/web/site.hpp"

namespace tandem {
namespace {

namespace http = boost::beast::http;
using asio::ip::tcp;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Response = http::response<http::string_body>;

const tcp::endpoint any_port(asio::ip::address_v4::loopback(), 0);

class WebPort : public testing::Test {
 protected:
  void SetUp() override {
    web::Sources sources;
    sources.metrics = []() -> Task<std::string> { co_return "tandem_build_info 1\n"; };
    sources.api = [this](api::Request request) -> Task<Result<json>> {
      const std::scoped_lock lock(mutex_);
      asked_.push_back(request.method + " " + request.path + " " + request.query);
      if (!api_error_.empty()) co_return Error{Errc::conflict, api_error_};
      co_return Result<json>(boost::system::in_place_value, api_answer_);
    };
    auto server = api::WebServer::listen(
        context_.get_executor(), any_port, {"alpha", "tandem.example.org"},
        [sources](api::Request request) { return web::answer(std::move(request), sources); });
    ASSERT_TRUE(server) << server.error().message;
    server_ = *server;
    asio::co_spawn(context_, server_->serve(), asio::detached);
    thread_ = std::thread([this] { context_.run(); });
  }
  void TearDown() override {
    asio::post(context_, [this] { server_->close(); });
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }

  tcp::socket connect() {
    tcp::socket socket(client_context_);
    socket.connect(server_->address());
    return socket;
  }

  Response ask(http::verb method, std::string target, std::string host = "127.0.0.1:7071",
               std::string body = "") {
    auto socket = connect();
    http::request<http::string_body> request(method, target, 11);
    if (!host.empty()) request.set(http::field::host, host);
    request.body() = std::move(body);
    request.prepare_payload();
    http::write(socket, request);
    return read(socket, method == http::verb::head);
  }
  Response get(std::string target) { return ask(http::verb::get, std::move(target)); }

  static Response read(tcp::socket& socket, bool is_head = false) {
    boost::beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(1u << 20);
    parser.skip(is_head);
    boost::system::error_code ec;
    http::read(socket, buffer, parser, ec);
    EXPECT_FALSE(ec) << ec.message();
    return parser.release();
  }

  /// What the API was asked since the last call.
  std::vector<std::string> asked() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(asked_, {});
  }
  void api_says(json answer) {
    const std::scoped_lock lock(mutex_);
    api_answer_ = std::move(answer);
  }
  void api_fails(std::string message) {
    const std::scoped_lock lock(mutex_);
    api_error_ = std::move(message);
  }

  asio::io_context context_, client_context_;
  std::shared_ptr<api::WebServer> server_;

 private:
  std::thread thread_;
  std::mutex mutex_;
  std::vector<std::string> asked_;
  json api_answer_ = json::object();
  std::string api_error_;
};

TEST_F(WebPort, ThePageAndItsFilesComeOutOfTheProgram) {
  const auto page = get("/");
  EXPECT_EQ(page.result_int(), 200u);
  EXPECT_EQ(page[http::field::content_type], "text/html; charset=utf-8");
  EXPECT_THAT(page.body(), HasSubstr("<title>Tandem</title>"));
  for (const auto& file : web::embedded_files()) {
    const auto answer = get("/page/" + std::string(file.name));
    EXPECT_EQ(answer.result_int(), 200u) << file.name;
    EXPECT_EQ(answer.body(), file.bytes);
    EXPECT_NE(answer[http::field::content_type], "application/octet-stream") << file.name;
  }
}

TEST_F(WebPort, WhatThePageNamesIsThere) {
  for (const auto& file : web::embedded_files()) {
    const std::string text(file.bytes);
    EXPECT_THAT(text, Not(HasSubstr("https://"))) << file.name << " needs something from outside";
  }
  const auto page = get("/").body();
  for (auto at = page.find("\"/page/"); at != std::string::npos;
       at = page.find("\"/page/", at + 1)) {
    const auto path = page.substr(at + 1, page.find('"', at + 1) - at - 1);
    EXPECT_EQ(get(path).result_int(), 200u) << path;
  }
}

TEST_F(WebPort, MetricsComeAsPrometheusWantsThem) {
  const auto answer = get("/metrics");
  EXPECT_EQ(answer.result_int(), 200u);
  EXPECT_EQ(answer[http::field::content_type], "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(answer.body(), "tandem_build_info 1\n");
}

TEST_F(WebPort, TheApiIsReadAndNeverChanged) {
  api_says({{"host", "alpha"}});
  EXPECT_EQ(json::parse(get("/v1/status").body()), (json{{"host", "alpha"}}));
  get("/v1/events?after=7");
  get("/v1/vms/web/observations?after=3&wait_ms=5");
  EXPECT_THAT(asked(), testing::ElementsAre("GET /v1/status ", "GET /v1/events after=7",
                                            "GET /v1/vms/web/observations after=3&wait_ms=5"));
  for (const auto* path :
       {"/v1/vms/web", "/v1/vms/web/trace", "/v1/vms/web/protect", "/v1/vms",
        "/v1/vms/observations", "/v1/vms//observations", "/v1/", "/nonsense", "/page/",
        "/page/../index.html", "/page/nonsense", "http://x/v1/status"}) {
    EXPECT_EQ(get(path).result_int(), 404u) << path;
  }
  EXPECT_THAT(asked(), testing::IsEmpty());
}

TEST_F(WebPort, OnlyGetAndHeadAreAnswered) {
  for (const auto method : {http::verb::post, http::verb::put, http::verb::delete_,
                            http::verb::options, http::verb::patch}) {
    const auto answer = ask(method, "/v1/vms/web/protect", "localhost", R"({"peer":"beta"})");
    EXPECT_EQ(answer.result_int(), 405u) << method;
    EXPECT_EQ(answer[http::field::allow], "GET, HEAD");
  }
  EXPECT_THAT(asked(), testing::IsEmpty());
}

TEST_F(WebPort, HeadIsGetWithoutTheBody) {
  auto socket = connect();
  http::request<http::empty_body> request(http::verb::head, "/metrics", 11);
  request.set(http::field::host, "localhost:7071");
  http::write(socket, request);
  const auto head = read(socket, true);
  EXPECT_EQ(head.result_int(), 200u);
  EXPECT_EQ(head[http::field::content_length], "20");
  EXPECT_EQ(head.body(), "");
  // The connection is still good, and no body lies in the way.
  request.method(http::verb::get);
  http::write(socket, request);
  EXPECT_EQ(read(socket).body().size(), 20u);
}

TEST_F(WebPort, NamesThatAreNotKnownAreRefused) {
  for (const auto* host :
       {"evil.example", "evil.example:7071", "alpha.evil.example", "127.0.0.1.evil.example",
        "localhost.evil.example", "", "[evil]", "[::1"}) {
    const auto answer = ask(http::verb::get, "/v1/status", host);
    EXPECT_EQ(answer.result_int(), 421u) << host;
    EXPECT_THAT(answer.body(), HasSubstr("web.names")) << host;
  }
  EXPECT_THAT(asked(), testing::IsEmpty());
  for (const auto* host :
       {"localhost", "LOCALHOST:7071", "127.0.0.1", "10.0.0.7:80", "[::1]:7071", "[fe80::1]",
        "alpha:7071", "Tandem.Example.Org", "tandem.example.org."}) {
    EXPECT_EQ(ask(http::verb::get, "/v1/status", host).result_int(), 200u) << host;
  }
}

TEST_F(WebPort, EveryAnswerTellsBrowsersToBeCareful) {
  for (const auto& answer : {get("/"), get("/metrics"), get("/v1/status"), get("/nonsense"),
                             ask(http::verb::post, "/"), ask(http::verb::get, "/", "evil")}) {
    const std::string policy(answer["Content-Security-Policy"]);
    EXPECT_THAT(policy, AllOf(HasSubstr("default-src 'none'"), HasSubstr("script-src 'self'"),
                              HasSubstr("frame-ancestors 'none'"), Not(HasSubstr("unsafe"))));
    EXPECT_EQ(answer["X-Content-Type-Options"], "nosniff");
    EXPECT_EQ(answer["Cross-Origin-Resource-Policy"], "same-origin");
    EXPECT_EQ(answer["Referrer-Policy"], "no-referrer");
    EXPECT_EQ(answer[http::field::cache_control], "no-store");
    EXPECT_EQ(answer.count("Access-Control-Allow-Origin"), 0u);
  }
}

TEST_F(WebPort, ErrorsAreJsonWithTheirStatus) {
  const std::string message = "web has no controller";
  api_fails(message);
  const auto answer = get("/v1/vms/web/observations");
  EXPECT_EQ(answer.result_int(), 409u);
  EXPECT_EQ(json::parse(answer.body()),
            (json{{"error", {{"code", "conflict"}, {"message", message}}}}));
}

TEST_F(WebPort, WhatIsTooLongOrNotHttpIsRefused) {
  const auto say = [&](const std::string& text) {
    auto socket = connect();
    asio::write(socket, asio::buffer(text));
    return read(socket).result_int();
  };
  EXPECT_EQ(say("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n"),
            431u);
  EXPECT_EQ(say("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"), 413u);
  EXPECT_EQ(say("nonsense\r\n\r\n"), 400u);
}

TEST_F(WebPort, MoreConnectionsThanAllowedAreClosed) {
  std::vector<tcp::socket> sockets;
  for (int i = 0; i < 64; ++i) {
    sockets.push_back(connect());
    // Once it has answered, it counts.
    asio::write(sockets.back(),
                asio::buffer(std::string("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")));
    EXPECT_EQ(read(sockets.back()).result_int(), 200u) << i;
  }
  auto one_more = connect();
  char byte = 0;
  boost::system::error_code ec;
  asio::read(one_more, asio::buffer(&byte, 1), ec);
  EXPECT_EQ(ec, asio::error::eof);
  sockets.clear();
}

TEST_F(WebPort, AnAddressInUseIsNamed) {
  const auto second = api::WebServer::listen(context_.get_executor(), server_->address(), {}, {});
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message,
              AllOf(HasSubstr("127.0.0.1:" + std::to_string(server_->address().port())),
                    HasSubstr("Address already in use")));
}

TEST_F(WebPort, WhatClientsHaveSentStaysInside) {
  const auto said = json::parse(R"({
    "vms": [{"name": "web", "compare": {"mismatch_flows":
      [{"flow": "tcp a > b", "count": 2, "reason": "payload", "detail": "at 7: secret", "time": 1}]}}],
    "events": [
      {"type": "mismatch", "message": "payload: tcp a > b at 7: secret",
       "data": {"reason": "payload", "flow": "tcp a > b", "detail": "at 7: secret", "epoch": 3}},
      {"type": "protected", "message": "web is protected", "data": {"peer": "beta"}}]})");
  api_says(said);
  const auto text = get("/v1/status").body();
  EXPECT_THAT(text, Not(HasSubstr("secret")));
  const auto answer = json::parse(text);
  EXPECT_EQ(answer["vms"][0]["compare"]["mismatch_flows"][0],
            (json{{"flow", "tcp a > b"}, {"count", 2}, {"reason", "payload"}, {"time", 1}}));
  EXPECT_EQ(answer["events"][0]["message"], "payload: tcp a > b");
  EXPECT_EQ(answer["events"][1], said["events"][1]);
}

}  // namespace
}  // namespace tandem
