// One VM on this host: its QEMU, its role, and the session that protects it or takes part in
// protecting it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/nursery.hpp"
#include "engine/daemon/config.hpp"
#include "engine/daemon/event_log.hpp"
#include "engine/daemon/pair_thread.hpp"
#include "engine/daemon/state_store.hpp"
#include "engine/daemon/stop_clock.hpp"
#include "engine/metrics/vm_book.hpp"
#include "engine/session/primary_session.hpp"
#include "engine/session/secondary_session.hpp"
#include "engine/session/setup.hpp"

namespace tandem::daemon {

/// What this host's QEMU is, once it has been examined. Thread-safe.
class QemuSlot {
 public:
  using Value = std::shared_ptr<const Result<hypervisor::QemuProbe>>;
  void set(Result<hypervisor::QemuProbe> probe) {
    const std::scoped_lock lock(mutex_);
    value_ = std::make_shared<const Result<hypervisor::QemuProbe>>(std::move(probe));
  }
  /// Null before.
  [[nodiscard]] Value get() const {
    const std::scoped_lock lock(mutex_);
    return value_;
  }

 private:
  mutable std::mutex mutex_;
  Value value_;
};

/// What all VMs of a host share. Outlives them.
struct HostContext {
  const Config& config;
  EventLog& events;
  StateStore& states;
  arbiter::Arbiter& arbiter;
  std::string arbiter_name;  ///< kind and place
  QemuSlot qemu{};
  metrics::Shelf books{};
};

/// A policy and parameters that somebody asks for; what is left out stays as it is.
struct PolicyChoice {
  std::optional<controller::Policy> policy;
  nlohmann::json parameters = nlohmann::json::object();
};

class VmUnit {
 public:
  /// `configured`: the definition is this host's own, and not one that a peer or a former daemon
  /// gave.
  VmUnit(HostContext& host, hypervisor::VmDefinition definition, bool configured);
  ~VmUnit();

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] asio::any_io_executor executor() { return thread_.executor(); }
  [[nodiscard]] std::chrono::milliseconds idle_for() const noexcept { return thread_.idle_for(); }
  /// Anything runs or is about to: no second pair may begin. From any thread.
  [[nodiscard]] bool busy() const noexcept { return busy_; }

  // The rest is called on executor() only.

  Task<Result<void>> start();
  Task<Result<void>> stop();
  Task<Result<void>> protect(std::string peer, PolicyChoice choice);
  /// Of a protected VM, at run time.
  Task<Result<void>> set_policy(PolicyChoice choice);
  Task<Result<void>> unprotect();
  Task<Result<void>> failover();
  /// The peer `primary` wants this host to be the secondary of its VM. Ends when the pair does.
  Task<void> serve_secondary(session::Lanes lanes, std::string primary);
  /// Takes up what a former daemon has left (R8, R10).
  Task<void> recover(VmState state);
  /// The daemon ends: the VM runs on, unprotected.
  Task<void> release();
  Task<nlohmann::json> status();
  /// The same for Prometheus: cheaper, and its counters never go back.
  Task<metrics::VmSample> sample();
  /// What was compared since record `after`; waits for something to come, at most `wait`.
  Task<Result<nlohmann::json>> trace(std::uint64_t after, std::chrono::milliseconds wait);
  /// What the controller has seen and decided since record `after`; waits for something to come, at
  /// most `wait`.
  Task<Result<nlohmann::json>> observations(std::uint64_t after, std::chrono::milliseconds wait);

 private:
  Task<Result<void>> connect_monitor(const std::filesystem::path& socket);
  Task<Result<session::Lanes>> connect_lanes(Peer peer);
  Task<Result<void>> begin_protection(Peer peer, PolicyChoice choice);
  Task<void> run_primary(std::string setup);
  Task<Result<void>> prepare_secondary(session::Setup setup, session::Lanes& lanes);
  Task<void> go_alone_after_crash();
  /// Connections that a failover has left to be translated: serves their channels until the last of
  /// them has ended.
  void keep_translating(std::vector<session::NetChannel::Pointer> channels);
  Task<void> watch_translations();
  Task<void> translate_after_crash(std::map<std::string, proxy::TranslationTable> translations);
  /// Makes later migrations of a VM that has left COLO ordinary ones again.
  Task<void> reset_capabilities();
  Task<void> kill_process();
  /// The VM that this host ran alone has ended: any host may start and protect it again.
  Task<void> retire();
  Task<Result<void>> start_process(hypervisor::StartMode mode);

  void on_event(const qmp::Event& event);
  void on_monitor_closed(const Error& error);
  void forget_process();
  void set_role(Role role, std::uint64_t generation, std::string peer);
  void save();
  void event(std::string type, std::string message, nlohmann::json data = nlohmann::json::object());
  Result<void> connect_network();
  [[nodiscard]] session::VmControl vm_control();
  [[nodiscard]] session::Observer observer();
  /// Told what network channels have counted that are no more.
  [[nodiscard]] std::function<void(const session::ChannelCounters&)> channel_book() const;
  void note_failover(const session::FailoverTimes& times);
  [[nodiscard]] hypervisor::LocalHypervisor hypervisor() const;
  Task<Result<void>> wait_for_probe();
  [[nodiscard]] std::string accelerator() const;
  [[nodiscard]] Error state_error(const std::string& wanted) const;

  PairThread thread_;  ///< first: everything below uses its io_context until it is gone
  HostContext& host_;
  std::string name_;
  hypervisor::VmDefinition definition_;  ///< of the VM that runs, or would be started
  std::optional<hypervisor::VmDefinition> configured_;
  std::atomic<bool> busy_ = false;
  bool changing_ = false;  ///< a start, stop or set-up is under way

  std::optional<hypervisor::VmProcess> process_;
  std::shared_ptr<qmp::Client> qmp_;
  Role role_ = Role::none;
  std::uint64_t generation_ = 0;
  std::string peer_;
  StopClock stop_clock_;
  std::shared_ptr<metrics::VmBook> book_;  ///< outlives this
  nlohmann::json failover_;                ///< of the last one; null before
  std::optional<metrics::Failover> last_failover_;
  std::string last_error_;

  /// What was asked for last, here or where the VM's primary is.
  controller::Policy policy_ = controller::Policy::periodic;
  controller::Parameters parameters_;
  std::vector<session::NetChannel::Pointer> translating_;
  bool watching_translations_ = false;
  std::size_t translations_saved_ = 0;  ///< how many the state file names
  /// Shared with calls that wait for something in it.
  std::shared_ptr<session::PrimarySession> primary_;
  std::unique_ptr<session::SecondarySession> secondary_;

  Nursery nursery_;
};

}  // namespace tandem::daemon
