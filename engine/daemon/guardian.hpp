// The guardian: a process that starts the worker, and starts it again when it has died or hangs.
//
// A worker that hangs holds the sockets that QEMU writes its packets to, and once they are full
// QEMU stands still (R10). Killing the worker closes them; the next worker recovers the VMs. The
// guardian itself does as little as possible, so that nothing can make it hang.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace tandem::daemon {

struct GuardianOptions {
  std::vector<std::string> worker;  ///< argv; "--life-sign FD" is added
  std::chrono::milliseconds hang_timeout{300};
};

/// Runs until SIGTERM or SIGINT, which it passes on, or until the worker exits by itself. Returns
/// the exit status for the process.
int run_guardian(const GuardianOptions& options);

}  // namespace tandem::daemon
