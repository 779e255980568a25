// Starting, watching and ending processes: exactly the descriptors that are meant, errors of exec
// reported, a pidfd instead of a pid that may be somebody else's by now.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"

namespace tandem::hypervisor {

/// The number under which a new process finds the first descriptor of SpawnRequest::descriptors.
inline constexpr int first_inherited_fd = 3;

struct SpawnRequest {
  std::filesystem::path program;         ///< a path, not looked for in PATH
  std::vector<std::string> arguments;    ///< without the program's own name
  std::vector<std::string> environment;  ///< all of it, "NAME=value"
  int output = -1;                       ///< stdout and stderr; stdin is /dev/null
  std::vector<int> descriptors;          ///< become 3, 4, …; no others are inherited; at most 32
  /// A session of its own, and not our child: it outlives us, and init collects its exit status.
  /// Otherwise a child, whose status exit_status() collects.
  bool detached = false;
};

struct Spawned {
  ProcessId process;
  UniqueFd pidfd;
};

/// Returns once the program has been executed. Errc::not_found, ::permission or ::io if that
/// failed.
Result<Spawned> spawn(const SpawnRequest& request);

/// The environment of this process.
std::vector<std::string> current_environment();

/// A descriptor for a process that may or may not be ours. Errc::not_found if it has ended.
Result<UniqueFd> open_pidfd(const ProcessId& process);

/// True if the process behind the pidfd has ended.
bool has_ended(int pidfd);

/// Waits for the process's end. Errc::timed_out.
Task<Result<void>> wait_for_end(int pidfd, std::chrono::milliseconds timeout);

/// SIGKILL; a process that has ended already is no error.
Result<void> send_kill(int pidfd);

/// The exit status of a child that has ended: its exit code, or 128 + the signal that ended it.
Result<int> exit_status(int pidfd);

}  // namespace tandem::hypervisor
