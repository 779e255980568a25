// The worker: one host's VMs, the listener for peers, and the API.
#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <string>

#include "base/unique_fd.hpp"
#include "engine/api/server.hpp"
#include "engine/api/web_server.hpp"
#include "engine/arbiter/arbiter.hpp"
#include "engine/daemon/config.hpp"
#include "engine/daemon/event_log.hpp"
#include "engine/daemon/reception.hpp"
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
  /// The page and the metrics; a port that cannot be had is an event, and no reason to stop.
  void listen_for_browsers();
  [[nodiscard]] Reception::Handlers reception_handlers();
  Task<void> start();
  Task<Result<hypervisor::QemuProbe>> probe_qemu();
  Task<void> beat();
  Task<void> shut_down();

  Task<Result<void>> admit(std::string vm, std::string peer);
  Task<void> serve_pair(Arrival arrival);

  Task<Result<nlohmann::json>> handle(api::Request request);
  Task<Result<nlohmann::json>> handle_vm(api::Request request, std::string name,
                                         std::string action);
  Task<Result<nlohmann::json>> status();
  /// In Prometheus' text format.
  Task<std::string> metrics();
  Task<Result<nlohmann::json>> events(api::Request request);

  using UnitPointer = std::shared_ptr<VmUnit>;
  UnitPointer find(const std::string& name) const;
  /// The definition in this host's configuration, or null.
  [[nodiscard]] const hypervisor::VmDefinition* configured(const std::string& name) const;
  /// The unit of VM `name`; a new one has this host's own definition, or `otherwise`.
  UnitPointer make_unit(const std::string& name, hypervisor::VmDefinition otherwise);
  /// Forgets a VM that is neither configured nor running here.
  void forget_if_idle(const std::string& name);
  /// Runs a unit's coroutine on the unit's own thread; the unit outlives it.
  template <class T>
  Task<T> on(UnitPointer unit, Task<T> call);

  Config config_;
  int life_sign_fd_;
  asio::io_context context_{1};
  EventLog events_;
  UniqueFd state_lock_;  ///< one daemon a state folder
  StateStore states_;
  std::unique_ptr<arbiter::Arbiter> arbiter_;
  HostContext host_;
  std::map<std::string, UnitPointer> units_;  ///< used on the main thread only
  std::shared_ptr<api::Server> api_;
  std::shared_ptr<api::WebServer> web_;  ///< null: there is none
  Reception reception_;
  Signal new_event_;
  bool stopping_ = false;
};

}  // namespace tandem::daemon
