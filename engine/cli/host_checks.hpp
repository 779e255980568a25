// What `tandem doctor` asks of this host: QEMU, devices, files, memory, folders, other daemons.
//
// Nothing is changed: what must be tried out (a tap, a file) is made under a name of its own and
// removed at once.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "base/error.hpp"
#include "engine/cli/check.hpp"
#include "engine/daemon/config.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"

namespace tandem::cli {

/// The answer to GET /v1/status of the tandemd that the configuration is for, if it runs.
using DaemonStatus = std::optional<nlohmann::json>;

/// The binary, its version, the accelerator and the shim. `probed` is what was found, for the
/// comparison with peers.
Checks check_qemu(const hypervisor::QemuConfig& config,
                  std::optional<hypervisor::QemuProbe>& probed);

/// The configured names: hosts, taps and MAC addresses must be unique.
Checks check_names(const daemon::Config& config);

Checks check_network(const daemon::Config& config, const DaemonStatus& status);
Checks check_vm_files(const daemon::Config& config);
Checks check_memory(const daemon::Config& config, const DaemonStatus& status);
Checks check_directories(const daemon::Config& config);
/// Paths of unix sockets, and whether `tandem` asks where tandemd listens.
Checks check_sockets(const daemon::Config& config, const std::filesystem::path& asked);
/// No other tandemd may use this one's state.
Checks check_other_daemons(const daemon::Config& config, const DaemonStatus& status);

// The pure parts.

/// What /proc/meminfo says, in bytes.
struct MemoryFacts {
  std::uint64_t available = 0;
  std::uint64_t commit_limit = 0, committed = 0;
  int overcommit = 0;  ///< /proc/sys/vm/overcommit_memory
};

/// Errc::protocol if a line that is needed is missing.
Result<MemoryFacts> parse_meminfo(std::string_view text);

struct MemoryNeed {
  std::uint64_t guests = 0;       ///< the VMs that do not run yet, with QEMU's own
  std::uint64_t checkpoints = 0;  ///< three of the largest a VM can have, for every VM
};

MemoryNeed memory_need(const daemon::Config& config, const DaemonStatus& status);
Checks judge_memory(const MemoryNeed& need, const MemoryFacts& facts);

/// The configuration file that a tandemd was started with, from its arguments; nothing for a
/// worker, whose guardian says it already, and for what is no tandemd.
std::optional<std::string> config_of_guardian(const std::vector<std::string>& arguments);

}  // namespace tandem::cli
