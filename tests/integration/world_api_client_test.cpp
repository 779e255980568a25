// The API's client against a scripted server on a real unix socket: every way in which an answer
// can be wrong or missing.
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <future>
#include <thread>

#include "base/unique_fd.hpp"
#include "engine/api/client.hpp"

namespace tandem::api {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Answers one request with the given bytes and closes the connection; keeps what it was asked.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::string answer, bool hang = false)
      : answer_(std::move(answer)), hang_(hang) {
    std::string name = "/tmp/tnd-api-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path().c_str());
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
    std::filesystem::remove_all(folder_);
  }
  [[nodiscard]] std::filesystem::path path() const { return folder_ / "api.sock"; }
  std::string request() { return request_.get_future().get(); }

 private:
  void serve() {
    const UniqueFd peer(::accept(listener_.get(), nullptr, nullptr));
    if (!peer) return;
    std::string got;
    std::array<char, 4096> buffer;
    // The test's requests are small and end with their JSON or an empty line.
    while (got.find("\r\n\r\n") == std::string::npos) {
      const ssize_t n = ::recv(peer.get(), buffer.data(), buffer.size(), 0);
      if (n <= 0) break;
      got.append(buffer.data(), static_cast<std::size_t>(n));
    }
    request_.set_value(got);
    if (hang_) {
      // Until the client goes away.
      pollfd waiting{peer.get(), POLLIN, 0};
      ::poll(&waiting, 1, 5000);
      return;
    }
    std::string_view rest = answer_;
    while (!rest.empty()) {
      const ssize_t n = ::send(peer.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (n <= 0) break;
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  std::string answer_;
  bool hang_;
  std::filesystem::path folder_;
  UniqueFd listener_;
  std::promise<std::string> request_;
  std::thread thread_;
};

std::string http(int status, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) +
         " Whatever\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

TEST(ApiClient, ReturnsTheJsonThatIsAnswered) {
  ScriptedServer server(http(200, R"({"host":"alpha","n":[1,2]})"));
  const auto answer = ApiClient(server.path()).get("/v1/status", seconds(5));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(*answer, (json{{"host", "alpha"}, {"n", {1, 2}}}));
  EXPECT_EQ(server.request().substr(0, 26), "GET /v1/status HTTP/1.1\r\nH");
}

TEST(ApiClient, PostsItsBodyAsJson) {
  ScriptedServer server(http(200, "{}"));
  const auto answer =
      ApiClient(server.path()).post("/v1/vms/demo/protect", {{"peer", "beta"}}, seconds(5));
  ASSERT_TRUE(answer) << answer.error().message;
  const auto request = server.request();
  EXPECT_EQ(request.substr(0, 35), "POST /v1/vms/demo/protect HTTP/1.1\r");
  EXPECT_NE(request.find("Content-Type: application/json\r\n"), std::string::npos);
  EXPECT_NE(request.find("Content-Length: 15\r\n"), std::string::npos) << request;
}

TEST(ApiClient, TakesAnEmptyAnswerForAnEmptyObject) {
  ScriptedServer server(http(200, ""));
  const auto answer = ApiClient(server.path()).get("/v1/status", seconds(5));
  ASSERT_TRUE(answer);
  EXPECT_EQ(*answer, json::object());
}

TEST(ApiClient, HandsOnTheDaemonsError) {
  ScriptedServer server(http(404, R"({"error":{"code":"not-found","message":"no VM demo"}})"));
  const auto answer = ApiClient(server.path()).get("/v1/vms/demo", seconds(5));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error(), (Error{Errc::not_found, "no VM demo"}));
}

TEST(ApiClient, MapsEveryErrorCodeBack) {
  for (const Errc code :
       {Errc::invalid_input, Errc::not_found, Errc::conflict, Errc::refused, Errc::unavailable,
        Errc::permission, Errc::timed_out, Errc::closed, Errc::protocol, Errc::limit, Errc::io}) {
    const json body{{"error", {{"code", to_string(code)}, {"message", "why"}}}};
    EXPECT_EQ(error_from_answer(409, body.dump()), (Error{code, "why"}));
  }
}

TEST(ApiClient, SaysSoWhenAnErrorIsNotExplained) {
  for (const auto* body : {"", "oops", "{}", R"({"error":3})",
                           R"({"error":{"code":"x","message":"y"}})", R"({"error":{"code":"io"}})"})
    EXPECT_EQ(error_from_answer(500, body).code, Errc::protocol) << body;
}

TEST(ApiClient, RefusesAnAnswerThatIsNotJson) {
  ScriptedServer server(http(200, "<html>"));
  EXPECT_EQ(ApiClient(server.path()).get("/v1/status", seconds(5)).error().code, Errc::protocol);
}

TEST(ApiClient, RefusesAnAnswerThatIsNotHttp) {
  ScriptedServer server("{\"QMP\": {}}\r\n\r\n");
  EXPECT_EQ(ApiClient(server.path()).get("/v1/status", seconds(5)).error().code, Errc::protocol);
}

TEST(ApiClient, RefusesAnAnswerThatIsTooLong) {
  ScriptedServer server("HTTP/1.1 200 OK\r\nContent-Length: 17000000\r\n\r\n");
  EXPECT_EQ(ApiClient(server.path()).get("/v1/status", seconds(5)).error().code, Errc::limit);
}

TEST(ApiClient, NoticesAnAnswerThatEndsEarly) {
  ScriptedServer server("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}");
  EXPECT_EQ(ApiClient(server.path()).get("/v1/status", seconds(5)).error().code, Errc::closed);
}

TEST(ApiClient, NoticesAConnectionThatClosesWithoutAnAnswer) {
  ScriptedServer server("");
  EXPECT_EQ(ApiClient(server.path()).get("/v1/status", seconds(5)).error().code, Errc::closed);
}

TEST(ApiClient, GivesUpOnADaemonThatHangs) {
  ScriptedServer server("", true);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(ApiClient(server.path()).get("/v1/status", milliseconds(100)).error().code,
            Errc::timed_out);
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took, milliseconds(100));
  EXPECT_LT(took, seconds(3));
}

TEST(ApiClient, SaysThatNoDaemonListens) {
  const auto answer = ApiClient("/tmp/tnd-no-such-socket").get("/v1/status", seconds(5));
  EXPECT_EQ(answer.error().code, Errc::unavailable);
  EXPECT_NE(answer.error().message.find("/tmp/tnd-no-such-socket"), std::string::npos);
}

TEST(ApiClient, RefusesAPathThatIsTooLongForASocket) {
  const auto answer = ApiClient("/tmp/" + std::string(200, 'x')).get("/v1/status", seconds(5));
  EXPECT_EQ(answer.error().code, Errc::invalid_input);
}

}  // namespace
}  // namespace tandem::api
