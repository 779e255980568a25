// A real API server with answers of a test's own, on a thread and a socket of its own.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/api/server.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::test {

class FakeDaemon {
 public:
  /// Called on the server's thread, one question at a time.
  using Answer = std::function<Result<nlohmann::json>(const api::Request&)>;

  explicit FakeDaemon(Answer answer) : answer_(std::move(answer)) {
    auto server = api::Server::listen(io_.get_executor(), socket(),
                                      [this](api::Request request) -> Task<Result<nlohmann::json>> {
                                        co_return answer_(request);
                                      });
    if (!server) throw ErrorException(server.error());
    server_ = *server;
    asio::co_spawn(io_, server_->serve(), asio::detached);
    thread_ = std::jthread([this] { io_.run(); });
  }
  ~FakeDaemon() {
    io_.stop();
    thread_.join();
  }
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  [[nodiscard]] std::filesystem::path socket() const { return folder_.path() / "api.sock"; }
  [[nodiscard]] std::filesystem::path folder() const { return folder_.path(); }

 private:
  Answer answer_;
  TemporaryFolder folder_;
  asio::io_context io_{1};
  std::shared_ptr<api::Server> server_;
  std::jthread thread_;
};

/// A value that is one, and not a JSON value made of a Result.
inline Result<nlohmann::json> answered(nlohmann::json json) {
  return {boost::system::in_place_value, std::move(json)};
}

}  // namespace tandem::test
