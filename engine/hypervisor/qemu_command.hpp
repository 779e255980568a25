// The QEMU command line of a VM, as a pure function.
//
// Both hosts of a pair call it with the same definition, and it names every device itself, so that
// the two QEMUs have the same devices in the same places: migration demands it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/hypervisor/local_hypervisor.hpp"

namespace tandem::hypervisor {

/// What of the command line is not in the definition.
struct CommandContext {
  Accelerator accelerator = Accelerator::tcg;
  StartMode mode = StartMode::run;
  std::filesystem::path qmp_socket, serial;
  std::vector<int> tap_fds;  ///< one for each NIC: the number under which QEMU inherits its tap
};

/// QEMU's arguments, without the program's name. `vm` must be valid, and have as many NICs as there
/// are descriptors.
std::vector<std::string> qemu_arguments(const QemuConfig& config, const VmDefinition& vm,
                                        const CommandContext& context);

/// QEMU's environment: `base` with the configured variables set, and the shim preloaded if
/// `preload` names one. The configured variables win over `base`; what was preloaded already stays.
std::vector<std::string> qemu_environment(const QemuConfig& config, std::vector<std::string> base,
                                          const std::filesystem::path& preload);

}  // namespace tandem::hypervisor
