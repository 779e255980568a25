// Child processes of an experiment: started by argument list (never through a shell), in a network
// namespace if wanted, watched through a pidfd, and killed with the object that stands for them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"

namespace tandem::world {

class NetNamespace;

struct SpawnOptions {
  std::vector<std::string> argv;  ///< argv[0] is what the program sees as its name
  /// The file that is executed; empty: argv[0], looked up in PATH and in the sbin folders.
  std::filesystem::path executable;
  std::vector<std::string> environment;  ///< "NAME=value", added to this process's environment
  const NetNamespace* net = nullptr;     ///< started in this namespace, with a /sys that shows it
  std::filesystem::path stdout_file;     ///< appended to; empty: discarded
  std::filesystem::path stderr_file;     ///< appended to; may be the same as stdout_file
};

/// How a process ended.
struct ExitStatus {
  bool signalled = false;
  int value = 0;  ///< the exit status, or the signal

  [[nodiscard]] bool success() const noexcept { return !signalled && value == 0; }
  /// "exited with status 3", "was killed by signal 9 (Killed)"
  [[nodiscard]] std::string describe() const;
};

/// A child process. Not for use by several threads at once.
class Process {
 public:
  /// Errc::not_found if there is no such program; other errors name the step that failed.
  static Result<Process> spawn(const SpawnOptions& options);

  Process(Process&&) noexcept = default;
  Process& operator=(Process&& other) noexcept;
  /// Kills (SIGKILL) and reaps the process if it has not ended.
  ~Process();

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }

  /// True until the process has ended; reaps it when it has.
  bool running();
  /// Sends a signal; no error if the process has ended already.
  Result<void> kill(int signal);
  /// Waits for the end. Errc::timed_out if it still runs.
  Result<ExitStatus> wait(std::chrono::milliseconds timeout);

 private:
  Process(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  void finish() noexcept;

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<ExitStatus> ended_;
};

/// Runs a program to its end and returns its standard output (at most 1 MiB). A non-zero exit is an
/// error that quotes the command and its standard error; Errc::timed_out kills it.
Result<std::string> run(SpawnOptions options,
                        std::chrono::milliseconds timeout = std::chrono::seconds(10));

/// Where `name` is found in PATH, /usr/local/sbin, /usr/sbin or /sbin.
std::optional<std::filesystem::path> find_program(const std::string& name);

}  // namespace tandem::world
