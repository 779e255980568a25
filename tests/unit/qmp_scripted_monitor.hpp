// The other end of a QMP connection: a unix socket that says what the test tells it to say, and
// hands the test what the client said, file descriptors included.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/asio.hpp"
#include "base/unique_fd.hpp"
#include "qmp/client.hpp"
#include "tests/unit/qmp_coroutine.hpp"

namespace tandem::test {

inline constexpr std::string_view greeting =
    R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, )"
    R"("capabilities": ["oob"]}})"
    "\r\n";
inline constexpr std::string_view greeting_without_oob =
    R"({"QMP": {"version": {"qemu": {"micro": 0, "minor": 1, "major": 11}, "package": ""}, )"
    R"("capabilities": []}})"
    "\r\n";

class ScriptedMonitor {
 public:
  explicit ScriptedMonitor(asio::any_io_executor executor)
      : path_(folder_ / "qmp.sock"),
        acceptor_(executor, asio::local::stream_protocol::endpoint(path_)),
        socket_(executor) {}

  [[nodiscard]] const std::string& path() const { return path_; }

  Task<void> accept() {
    auto [ec] = co_await acceptor_.async_accept(socket_, use_tuple);
    EXPECT_FALSE(ec) << ec.message();
  }

  /// Sends it all; false once the client has gone.
  Task<bool> send_bytes(std::string bytes) {
    auto [ec, sent] = co_await asio::async_write(socket_, asio::buffer(bytes), use_tuple);
    co_return !ec;
  }

  Task<bool> send(nlohmann::json message) {
    auto sending = send_bytes(message.dump() + "\r\n");
    const bool sent = co_await std::move(sending);
    co_return sent;
  }

  Task<bool> reply(nlohmann::json id, nlohmann::json value = nlohmann::json::object()) {
    nlohmann::json message = nlohmann::json::object();
    message["return"] = std::move(value);
    message["id"] = std::move(id);
    auto sending = send(std::move(message));
    const bool sent = co_await std::move(sending);
    co_return sent;
  }

  Task<bool> event(std::string name, std::int64_t seconds = 1, std::int64_t microseconds = 0) {
    nlohmann::json message = nlohmann::json::object();
    message["event"] = name;
    message["timestamp"]["seconds"] = seconds;
    message["timestamp"]["microseconds"] = microseconds;
    auto sending = send(std::move(message));
    const bool sent = co_await std::move(sending);
    co_return sent;
  }

  /// The client's next message; nothing once it has closed the connection.
  Task<std::optional<nlohmann::json>> receive() {
    while (true) {
      const auto line_end = received_.find('\n');
      if (line_end != std::string::npos) {
        auto message = nlohmann::json::parse(received_.substr(0, line_end), nullptr, false);
        received_.erase(0, line_end + 1);
        EXPECT_FALSE(message.is_discarded()) << "the client sent no JSON";
        co_return message;
      }
      auto [ec] = co_await socket_.async_wait(asio::socket_base::wait_read, use_tuple);
      if (ec || !receive_some()) co_return std::nullopt;
    }
  }

  /// Accepts, greets and negotiates; what the client asked to have enabled.
  Task<nlohmann::json> negotiate(std::string hello = std::string(greeting)) {
    auto accepting = accept();
    co_await std::move(accepting);
    auto greeted = send_bytes(std::move(hello));
    co_await std::move(greeted);
    auto receiving = receive();
    const auto request = co_await std::move(receiving);
    if (!request) {
      ADD_FAILURE() << "the client went instead of negotiating";
      co_return nlohmann::json();
    }
    EXPECT_EQ((*request)["execute"], "qmp_capabilities");
    auto replied = reply((*request)["id"]);
    co_await std::move(replied);
    co_return request->contains("arguments") ? (*request)["arguments"] : nlohmann::json::object();
  }

  /// The descriptors that have come so far, oldest first.
  std::deque<UniqueFd>& descriptors() { return descriptors_; }
  [[nodiscard]] bool nothing_to_read() {
    char byte = 0;
    return received_.empty() &&
           ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
  }

  void close() { socket_.close(); }
  asio::local::stream_protocol::socket& socket() { return socket_; }

 private:
  bool receive_some() {
    std::array<char, 4096> bytes;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int))> control;
    iovec data{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t count =
        ::recvmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t count_fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count_fds; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
        descriptors_.emplace_back(fd);
      }
    }
    if (count == 0) return false;
    received_.append(bytes.data(), static_cast<std::size_t>(count));
    return true;
  }

  TemporaryFolder folder_;
  std::string path_;
  asio::local::stream_protocol::acceptor acceptor_;
  asio::local::stream_protocol::socket socket_;
  std::string received_;
  std::deque<UniqueFd> descriptors_;
};

using ClientResult = Result<std::shared_ptr<qmp::Client>>;

/// A client connected to `monitor`, or null and a failure of the test.
inline Task<std::shared_ptr<qmp::Client>> connected(ScriptedMonitor& monitor,
                                                    qmp::ClientOptions options = {},
                                                    std::string hello = std::string(greeting)) {
  const auto executor = co_await asio::this_coro::executor;
  auto connecting = start(executor, qmp::Client::connect(monitor.path(), options));
  auto negotiating = monitor.negotiate(std::move(hello));
  co_await std::move(negotiating);
  auto finishing = connecting.result();
  auto client = co_await std::move(finishing);
  if (!client) {
    ADD_FAILURE() << client.error().message;
    co_return nullptr;
  }
  co_return *client;
}

}  // namespace tandem::test
