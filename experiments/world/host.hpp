// A simulated host: a network namespace with a bridge for VMs, a cable to the clients' switch, a
// cable to the other host for replication, and a tandemd.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "engine/api/client.hpp"
#include "experiments/world/daemon_config.hpp"
#include "experiments/world/net_namespace.hpp"
#include "experiments/world/process.hpp"

namespace tandem::world {

class Host {
 public:
  /// Names of the links inside each host.
  static constexpr const char* kBridge = "br0";       ///< where VMs' taps join
  static constexpr const char* kClientLink = "lan0";  ///< the bridge's uplink to the switch
  static constexpr const char* kReplicationLink = "rep0";

  Host(NetNamespace net, std::filesystem::path directory, DaemonPlace place);

  [[nodiscard]] const std::string& name() const noexcept { return place_.host; }
  [[nodiscard]] const NetNamespace& net() const noexcept { return net_; }
  [[nodiscard]] const std::filesystem::path& directory() const noexcept { return directory_; }
  [[nodiscard]] const DaemonPlace& place() const noexcept { return place_; }
  [[nodiscard]] std::filesystem::path daemon_log() const { return directory_ / "tandemd.log"; }
  [[nodiscard]] api::ApiClient api() const { return api::ApiClient(place_.api_socket); }

  /// Writes the configuration and starts tandemd in the host's namespace; returns once its API
  /// answers. An error quotes the end of its log. Starting again after a stop is allowed.
  Result<void> start_daemon(const DaemonOptions& options,
                            std::chrono::milliseconds timeout = std::chrono::seconds(30));
  /// The daemon's guardian process, if it was started.
  [[nodiscard]] Process* daemon() noexcept { return daemon_ ? &*daemon_ : nullptr; }

  /// Takes all cables out (and puts them back): nothing that the host sends arrives any more.
  Result<void> cut_links();
  Result<void> restore_links();

  /// SIGKILLs every process of the host: guardian, worker, QEMUs, and whatever else runs there.
  /// Returns when none is left; Errc::timed_out after 5 s.
  Result<void> kill_everything();

  /// QEMU processes of this host.
  [[nodiscard]] std::vector<pid_t> qemu_processes() const;

 private:
  NetNamespace net_;
  std::filesystem::path directory_;
  DaemonPlace place_;
  std::optional<Process> daemon_;
};

/// The last `lines` lines of a text file, for error messages; empty if there is none.
std::string file_tail(const std::filesystem::path& file, std::size_t lines);

}  // namespace tandem::world
