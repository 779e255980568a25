// Starts and supervises QEMU processes itself: the driver for hosts without libvirt.
//
// A QEMU outlives the daemon that started it: it runs in a session of its own, and all that is
// needed to find it again is in its runtime directory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "engine/hypervisor/vm.hpp"
#include "qmp/client.hpp"

namespace tandem::hypervisor {

enum class Accelerator { kvm, tcg };
std::string_view to_string(Accelerator accelerator) noexcept;

struct QemuConfig {
  std::filesystem::path binary = "/usr/bin/qemu-system-x86_64";
  std::vector<std::string> arguments;    ///< put before the VM's own ("-L", firmware folder)
  std::vector<std::string> environment;  ///< "NAME=value", added to QEMU's environment
  std::string accel = "auto";  ///< "auto": KVM if a probe boots under it, else TCG; "kvm"; "tcg"
  std::filesystem::path tcg_shim;  ///< our preloaded library, used where the version needs it
};

/// What is known of a QEMU binary on this host.
struct QemuProbe {
  qmp::Version version;
  Accelerator accelerator = Accelerator::tcg;
  bool shim = false;               ///< TCG and a version before 11: tcg_shim is preloaded
  std::string accelerator_reason;  ///< why this accelerator was chosen, for `tandem doctor`
};

/// Starts the binary without a guest and asks it; boots a few instructions under KVM to see whether
/// they run. Errc::refused for a version whose COLO is known to be broken, by number and with what
/// to do.
Task<Result<QemuProbe>> probe(const QemuConfig& config);

/// Errc::refused if COLO is known to be broken in this version (10.0 and 10.1: the migration ends
/// "completed" and the primary stays paused).
Result<void> check_version(const qmp::Version& version);

/// Migration capabilities that COLO needs with this version ("x-colo", from 11 on "return-path").
std::vector<std::string> colo_capabilities(const qmp::Version& version);

/// Identifies a process for certain, also after its pid has been used again.
struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;  ///< field 22 of /proc/PID/stat
  friend bool operator==(const ProcessId&, const ProcessId&) = default;
};
std::optional<ProcessId> process_id(pid_t pid);

enum class StartMode { run, incoming };

/// A QEMU process that runs a VM.
struct VmProcess {
  ProcessId process;
  UniqueFd pidfd;                     ///< readable when the process has ended
  std::filesystem::path qmp_socket;   ///< the daemon's own monitor
  std::filesystem::path log, serial;  ///< QEMU's stderr; the guest's first serial port
};

class LocalHypervisor {
 public:
  /// `run_dir` holds one folder a VM: sockets, log, serial output.
  LocalHypervisor(QemuConfig config, QemuProbe probe, std::filesystem::path run_dir);

  /// Makes the taps (not joined to their bridges), starts QEMU and waits until its monitor answers.
  /// `mode` incoming starts it with `-incoming defer`. Errors name the VM and quote QEMU's last
  /// words; Errc::permission for a tap says which capability is missing; ::conflict if it runs
  /// already; after an error nothing is left behind.
  Task<Result<VmProcess>> start(const VmDefinition& vm, StartMode mode);

  /// Finds a QEMU that a former daemon started. Errc::not_found if that process is gone.
  Result<VmProcess> adopt(const std::string& vm_name, const ProcessId& process);

  /// SIGKILLs the process if it is still the same one, and waits for its end (at most 5 s).
  Task<Result<void>> kill(const VmProcess& process);

  [[nodiscard]] const QemuProbe& qemu() const noexcept { return probe_; }

 private:
  QemuConfig config_;
  QemuProbe probe_;
  std::filesystem::path run_dir_;
};

/// Joins a tap to a bridge, or takes it off (bridge empty); both must exist. Needs CAP_NET_ADMIN.
Result<void> set_bridge(const std::string& tap, const std::string& bridge);

}  // namespace tandem::hypervisor
