// The worker: one host's VMs, the listener for peers, and the API.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "engine/api/server.hpp"
#include "engine/arbiter/arbiter.hpp"
#include "engine/daemon/config.hpp"
#include "engine/daemon/event_log.hpp"
#include "engine/daemon/state_store.hpp"
#include "engine/daemon/vm_unit.hpp"

namespace tandem::daemon {

class Daemon {
 public:
  /// `life_sign_fd`: a byte is written here while every thread makes its rounds; -1 for none.
  Daemon(Config config, int life_sign_fd);
  ~Daemon();

  /// Recovers what a former daemon has left, then serves until SIGTERM or SIGINT.
  Result<void> run();

 private:
  Result<void> prepare();
  Task<void> start();
  Task<Result<hypervisor::QemuProbe>> probe_qemu();
  Task<void> beat();
  Task<void> shut_down();

  Task<void> accept_peers();
  Task<void> greet(asio::ip::tcp::socket socket);
  Task<Result<void>> join_lane(transport::Lane& lane, const std::string& hello_text,
                               wire::LaneKind kind, asio::ip::tcp::socket& socket);

  Task<Result<nlohmann::json>> handle(api::Request request);
  Task<Result<nlohmann::json>> handle_vm(api::Request request, std::string name,
                                         std::string action);
  Task<Result<nlohmann::json>> status();
  Task<Result<nlohmann::json>> events(api::Request request);

  VmUnit* find(const std::string& name);
  VmUnit& make_unit(hypervisor::VmDefinition definition);
  template <class T>
  Task<T> on(VmUnit& unit, Task<T> call);

  Config config_;
  int life_sign_fd_;
  asio::io_context context_{1};
  EventLog events_;
  StateStore states_;
  std::unique_ptr<arbiter::Arbiter> arbiter_;
  HostContext host_;
  std::map<std::string, std::unique_ptr<VmUnit>> units_;
  std::shared_ptr<api::Server> api_;
  asio::ip::tcp::acceptor acceptor_;
  Signal new_event_;
  std::size_t greeting_ = 0;  ///< connections that have not said hello yet

  /// Lanes of a pair that have arrived, until all three have.
  struct Arrival {
    std::string vm, peer;
    std::map<wire::LaneKind, asio::ip::tcp::socket> sockets;
    std::chrono::steady_clock::time_point deadline;
  };
  std::map<std::string, Arrival> arrivals_;  ///< by session
  bool stopping_ = false;
};

}  // namespace tandem::daemon
