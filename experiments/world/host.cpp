#include "experiments/world/host.hpp"

#include <poll.h>
#include <signal.h>

#include <deque>
#include <fstream>
#include <thread>

namespace tandem::world {
namespace {

// A process's program name as the kernel keeps it, at most 15 characters.
std::string command_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

}  // namespace

std::string file_tail(const std::filesystem::path& file, std::size_t lines) {
  std::ifstream input(file);
  std::deque<std::string> kept;
  for (std::string line; std::getline(input, line);) {
    kept.push_back(std::move(line));
    if (kept.size() > lines) kept.pop_front();
  }
  std::string text;
  for (const auto& line : kept) text += "\n  " + line;
  return text;
}

Host::Host(NetNamespace net, std::filesystem::path directory, DaemonPlace place)
    : net_(std::move(net)), directory_(std::move(directory)), place_(std::move(place)) {}

Result<void> Host::start_daemon(const DaemonOptions& options, std::chrono::milliseconds timeout) {
  if (daemon_ && daemon_->running())
    return Error{Errc::conflict, "tandemd runs already on " + name()};
  const auto config = directory_ / "tandemd.toml";
  {
    std::ofstream file(config);
    file << daemon_config(options, place_);
    if (!file.flush()) return Error{Errc::io, "cannot write " + config.string()};
  }
  SpawnOptions spawn;
  spawn.argv = {options.tandemd.string(), "--config", config.string()};
  spawn.environment = options.environment;
  spawn.net = &net_;
  spawn.stdout_file = daemon_log();
  spawn.stderr_file = daemon_log();
  auto started = Process::spawn(spawn);
  if (!started) return with_context(name(), started.error());
  daemon_.emplace(std::move(*started));

  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto status = api().get("/v1/status", std::chrono::seconds(2));
    if (status) return {};
    // The socket appears when the daemon is ready; its end is noticed at once.
    if (auto ended = daemon_->wait(std::chrono::milliseconds(20)); ended)
      return Error{Errc::closed, "tandemd on " + name() + " " + ended->describe() +
                                     "; the end of its log:" + file_tail(daemon_log(), 8)};
    if (std::chrono::steady_clock::now() >= deadline)
      return Error{Errc::timed_out, "tandemd on " + name() + " does not answer after " +
                                        std::to_string(timeout.count()) + " ms (" +
                                        status.error().message +
                                        "); the end of its log:" + file_tail(daemon_log(), 8)};
  }
}

Result<void> Host::cut_links() {
  // The replication cable first: the daemons must not be able to tell each other of the other cut.
  auto replication = net_.set_up(kReplicationLink, false);
  auto client = net_.set_up(kClientLink, false);
  return replication ? client : replication;
}

Result<void> Host::restore_links() {
  auto replication = net_.set_up(kReplicationLink, true);
  auto client = net_.set_up(kClientLink, true);
  return replication ? client : replication;
}

Result<void> Host::kill_everything() {
  // The guardian goes first, for it would start a new worker. Processes that were started between a
  // look and its kills are found by the next look.
  if (daemon_) {
    if (auto killed = daemon_->kill(SIGKILL); !killed) return killed;
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (;;) {
    const auto left = net_.processes();
    if (left.empty()) break;
    for (const pid_t pid : left) ::kill(pid, SIGKILL);
    if (std::chrono::steady_clock::now() >= deadline)
      return Error{Errc::timed_out, "processes of host " + name() + " survive SIGKILL"};
    ::poll(nullptr, 0, 1);
  }
  if (daemon_) {
    if (auto reaped = daemon_->wait(std::chrono::seconds(5)); !reaped) return reaped.error();
  }
  return {};
}

std::vector<pid_t> Host::qemu_processes() const {
  std::vector<pid_t> found;
  for (const pid_t pid : net_.processes())
    if (command_of(pid).starts_with("qemu-system")) found.push_back(pid);
  return found;
}

}  // namespace tandem::world
