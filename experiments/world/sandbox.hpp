// A private copy of the machine for an experiment: its own network, its own process numbers.
//
// Inside, nothing of the host's network can be touched, and every process dies with the program:
// when it ends, or is killed in any way, the kernel ends the whole process namespace.
#pragma once

#include "base/error.hpp"

namespace tandem::world {

/// Forks the program into new network, mount and process namespaces, in which it is root. As an
/// ordinary user, and as a root that may not do this directly, a new user namespace comes around
/// them. /proc and /sys show the new namespaces.
///
/// Call it first thing in main, before any thread exists. On success it returns inside the sandbox;
/// the process that called waits outside, passes SIGINT, SIGTERM and SIGHUP on, and ends with the
/// same exit status. On an error it returns in the calling process, unchanged; the message says
/// what this machine does not allow and how to allow it.
Result<void> enter_sandbox();

}  // namespace tandem::world
