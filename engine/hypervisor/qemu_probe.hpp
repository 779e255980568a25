// The part of the QEMU probe that a test can hold to account on any host.
#pragma once

#include <string>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"

namespace tandem::hypervisor {

struct BootVerdict {
  bool works = false;
  std::string reason;
};

/// Has QEMU's firmware start a boot sector under `accel` ("kvm", "tcg") and says whether it ran,
/// within 3 s.
Task<Result<BootVerdict>> try_boot(const QemuConfig& config, const std::string& accel);

/// The version in the output of `qemu-system-… --version`. Errc::protocol.
Result<qmp::Version> parse_version(const std::string& text);

}  // namespace tandem::hypervisor
