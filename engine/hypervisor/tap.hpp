// Tap devices, made here and handed to QEMU, so that QEMU itself needs no privileges.
#pragma once

#include <string>

#include "base/error.hpp"
#include "base/unique_fd.hpp"

namespace tandem::hypervisor {

/// Makes the tap device `name` with virtio-net headers and sets it up. It exists for as long as the
/// descriptor (or QEMU's copy of it) is open. Errc::permission names the capability that is
/// missing,
/// ::conflict says that the name is in use.
Result<UniqueFd> make_tap(const std::string& name);

}  // namespace tandem::hypervisor
