// Where peers arrive: accepts connections, hears their hello, and puts the three lanes of a pair
// together.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <string>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "engine/transport/tcp.hpp"
#include "engine/wire/protocol.hpp"

namespace tandem::daemon {

/// A pair whose three lanes have all said hello.
struct Arrival {
  std::string vm;
  std::string peer;  ///< the host that wants to be the primary
  std::map<wire::LaneKind, asio::ip::tcp::socket> sockets;
};

/// Everything is bounded in number and time: connections that have not said hello, pairs that are
/// not complete. Single-threaded.
class Reception {
 public:
  struct Handlers {
    /// Whether a pair for `vm` from host `peer` may begin; the error is told to the peer.
    std::function<Task<Result<void>>(std::string vm, std::string peer)> admit;
    std::function<void(Arrival)> arrived;
    std::function<void(const std::string& vm, const Error&)> refused;
    /// What every accepted hello is answered with: who is here.
    std::function<std::string()> introduction;
  };

  Reception(const asio::any_io_executor& executor, Handlers handlers)
      : acceptor_(executor), handlers_(std::move(handlers)) {}

  Result<void> listen(const transport::Endpoint& endpoint);
  Task<void> serve();
  /// Gives up pairs whose other lanes do not come; to be called now and then.
  void sweep();
  void close();

 private:
  struct Hello {
    wire::LaneKind kind = wire::LaneKind::control;
    bool only_asks = false;  ///< wants the introduction, and no pair
    std::string vm, peer, session;
  };
  struct Incomplete {
    Arrival arrival;
    std::chrono::steady_clock::time_point deadline;
  };

  Task<void> greet(asio::ip::tcp::socket socket);
  Task<void> hang_up(asio::ip::tcp::socket& socket);
  Task<Result<Hello>> hear(asio::ip::tcp::socket& socket);
  Task<Result<void>> judge(Hello hello);

  asio::ip::tcp::acceptor acceptor_;
  Handlers handlers_;
  std::size_t greeting_ = 0;
  std::map<std::string, Incomplete> incomplete_;  ///< by session
};

}  // namespace tandem::daemon
