#include "engine/hypervisor/local_hypervisor.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/file.hpp"
#include "engine/hypervisor/process.hpp"
#include "engine/hypervisor/qemu_command.hpp"
#include "engine/hypervisor/tap.hpp"

namespace tandem::hypervisor {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr auto start_timeout = 10s;
constexpr auto start_poll_interval = 10ms;
constexpr auto kill_timeout = 5s;
constexpr auto tap_release_timeout = 1s;
constexpr off_t quoted_bytes_max = 1000;

/// The files of one VM in its folder.
struct VmFiles {
  explicit VmFiles(fs::path f)
      : folder(std::move(f)),
        lock(folder / "lock"),
        process(folder / "process"),
        qmp(folder / "qmp.sock"),
        log(folder / "qemu.log"),
        serial(folder / "serial.log") {}
  fs::path folder;
  fs::path lock;     ///< locked for as long as the VM's QEMU lives, which inherits the lock
  fs::path process;  ///< "PID START_TICKS\n", for people and for a daemon that has lost its state
  fs::path qmp, log, serial;

  void remove_all() const {
    for (const auto* file : {&process, &qmp, &log, &serial, &lock}) ::unlink(file->c_str());
    ::rmdir(folder.c_str());
  }
};

/// Whoever may write to the monitor owns the VM: the folder is for this user alone.
Result<void> make_folder(const fs::path& folder) {
  std::error_code ec;
  fs::create_directories(folder.parent_path(), ec);
  if (ec) return system_error("cannot create " + folder.parent_path().string(), ec.value());
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return system_error("cannot create " + folder.string(), errno);
  }
  if (::chmod(folder.c_str(), 0700) != 0) {
    return system_error("cannot set the mode of " + folder.string(), errno);
  }
  return {};
}

Result<UniqueFd> open_file(const fs::path& path, int flags) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return system_error("cannot create " + path.string(), errno);
  return fd;
}

/// Locks the VM for as long as a copy of the descriptor is open anywhere: QEMU inherits one, so
/// that the lock lives exactly as long as QEMU does, whatever happens to this daemon and its notes.
Result<UniqueFd> lock_vm(const VmFiles& files) {
  auto fd = open_file(files.lock, O_RDWR | O_CREAT);
  if (!fd) return fd;
  if (::flock(fd->get(), LOCK_EX | LOCK_NB) == 0) {
    // A start that failed meanwhile may have removed the file that was just opened.
    struct stat opened {
    }, named{};
    if (::fstat(fd->get(), &opened) == 0 && ::stat(files.lock.c_str(), &named) == 0 &&
        opened.st_dev == named.st_dev && opened.st_ino == named.st_ino) {
      return fd;
    }
    return Error{Errc::conflict, "it is being started and stopped at the same time: try again"};
  }
  if (errno != EWOULDBLOCK) return system_error("cannot lock " + files.lock.string(), errno);
  std::string who = "its QEMU runs already";
  if (const auto process = read_file(files.process, 256)) {
    who += " (process " + process->substr(0, process->find(' ')) + ")";
  }
  return Error{Errc::conflict, who};
}

/// The last lines of a log, for an error message.
std::string last_words(const fs::path& log) {
  const UniqueFd fd(::open(log.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0 || status.st_size == 0) return "it said nothing";
  const auto from = status.st_size > quoted_bytes_max ? status.st_size - quoted_bytes_max : 0;
  std::string text(static_cast<std::size_t>(status.st_size - from), '\0');
  const auto n = ::pread(fd.get(), text.data(), text.size(), from);
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  if (from > 0) text.erase(0, text.find('\n') + 1);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return "QEMU says: " + text;
}

/// Kills what start() has begun, unless it is dismissed: also if the coroutine is destroyed
/// half-way.
class StartGuard {
 public:
  explicit StartGuard(const VmFiles& files) : files_(files) {}
  StartGuard(const StartGuard&) = delete;
  StartGuard& operator=(const StartGuard&) = delete;
  ~StartGuard() {
    if (dismissed_) return;
    if (pidfd_) static_cast<void>(send_kill(pidfd_.get()));
    files_.remove_all();
  }
  void watch(int pidfd) noexcept { pidfd_.reset(::fcntl(pidfd, F_DUPFD_CLOEXEC, 0)); }
  void dismiss() noexcept { dismissed_ = true; }

 private:
  const VmFiles& files_;
  UniqueFd pidfd_;
  bool dismissed_ = false;
};

/// Returns once the monitor has greeted: by then QEMU has read its whole command line and made the
/// machine.
Task<Result<void>> wait_for_monitor(const VmFiles& files, int pidfd) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  const auto deadline = std::chrono::steady_clock::now() + start_timeout;
  std::string last_failure;
  for (;;) {
    if (has_ended(pidfd)) {
      co_return Error{Errc::refused, "QEMU ended at once; " + last_words(files.log)};
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      co_return Error{Errc::timed_out, "QEMU's monitor has not answered within 10 s" +
                                           last_failure + "; " + last_words(files.log)};
    }
    if (::access(files.qmp.c_str(), F_OK) == 0) {
      qmp::ClientOptions options;
      options.connect_timeout =
          std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      auto client = co_await qmp::Client::connect(files.qmp.string(), options);
      if (client) {
        (*client)->close();
        co_return Result<void>();
      }
      // Not listening yet, or ended under our hands, which the next round sees.
      last_failure = "; " + client.error().message;
    }
    timer.expires_after(start_poll_interval);
    const auto [ec] = co_await timer.async_wait(use_tuple);
    if (ec) co_return Error{Errc::closed, "interrupted while QEMU was starting"};
  }
}

/// make_tap(), with patience: the kernel may let go of the tap of a QEMU that has just been killed
/// only after the process's end (seen with QEMU 11, whose main loop uses io_uring).
Task<Result<UniqueFd>> make_tap_when_free(std::string name) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  const auto deadline = std::chrono::steady_clock::now() + tap_release_timeout;
  for (;;) {
    auto tap = make_tap(name);
    if (tap || tap.error().code != Errc::conflict || std::chrono::steady_clock::now() >= deadline) {
      co_return tap;
    }
    timer.expires_after(start_poll_interval);
    const auto [ec] = co_await timer.async_wait(use_tuple);
    if (ec) co_return Error{Errc::closed, "interrupted while waiting for the tap " + name};
  }
}

/// The library to preload, if this QEMU needs one.
Result<fs::path> shim_for(const QemuConfig& config, const QemuProbe& probe) {
  if (!probe.shim) return fs::path();
  const auto need = "QEMU " + qmp::to_string(probe.version) +
                    " under software emulation needs "
                    "libtandem-tcg-shim.so, or its checkpoints hang and corrupt the secondary: ";
  if (config.tcg_shim.empty())
    return Error{Errc::invalid_input, need + "its path is not configured"};
  if (::access(config.tcg_shim.c_str(), R_OK) != 0) {
    return with_context(need, system_error(config.tcg_shim.string(), errno));
  }
  return fs::absolute(config.tcg_shim);
}

}  // namespace

LocalHypervisor::LocalHypervisor(QemuConfig config, QemuProbe probe, std::filesystem::path run_dir)
    : config_(std::move(config)),
      probe_(std::move(probe)),
      run_dir_(std::filesystem::absolute(run_dir)) {}

Task<Result<VmProcess>> LocalHypervisor::start(const VmDefinition& definition, StartMode mode) {
  const VmDefinition vm = definition;  // The caller's may be gone before this ends.
  if (auto valid = validate(vm); !valid) co_return valid.error();
  const auto context = "VM " + vm.name;
  const auto failed = [&](const Error& error) { return with_context(context, error); };

  const VmFiles files(run_dir_ / vm.name);
  if (files.qmp.native().size() >= sizeof(sockaddr_un::sun_path)) {
    co_return failed({Errc::invalid_input, "the path " + files.qmp.string() +
                                               " is too long for a "
                                               "socket: choose a shorter run directory"});
  }
  auto shim = shim_for(config_, probe_);
  if (!shim) co_return failed(shim.error());
  if (auto made = make_folder(files.folder); !made) co_return failed(made.error());
  // Declared before the guard: the lock is let go after the guard has cleaned up.
  auto lock = lock_vm(files);
  if (!lock) co_return failed(lock.error());
  StartGuard guard(files);

  CommandContext command;
  command.accelerator = probe_.accelerator;
  command.mode = mode;
  command.qmp_socket = files.qmp;
  command.serial = files.serial;
  std::vector<UniqueFd> taps;
  SpawnRequest request;
  for (const auto& nic : vm.nics) {
    auto tap = co_await make_tap_when_free(nic.tap);
    if (!tap) co_return failed(tap.error());
    command.tap_fds.push_back(first_inherited_fd + static_cast<int>(request.descriptors.size()));
    request.descriptors.push_back(tap->get());
    taps.push_back(*std::move(tap));
  }
  request.descriptors.push_back(lock->get());

  ::unlink(
      files.qmp
          .c_str());  // A socket that a killed QEMU has left would keep the new one from binding.
  auto log = open_file(files.log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
  if (!log) co_return failed(log.error());
  request.program = config_.binary;
  request.arguments = qemu_arguments(config_, vm, command);
  request.environment = qemu_environment(config_, current_environment(), *shim);
  request.output = log->get();
  request.detached = true;
  auto spawned = spawn(request);
  if (!spawned) co_return failed(spawned.error());
  guard.watch(spawned->pidfd.get());
  taps.clear();  // From here on the taps live and die with QEMU.

  const auto note = std::to_string(spawned->process.pid) + " " +
                    std::to_string(spawned->process.start_ticks) + "\n";
  if (auto noted = replace_file(files.process, note, false); !noted)
    co_return failed(noted.error());
  auto ready = co_await wait_for_monitor(files, spawned->pidfd.get());
  if (!ready) {
    // Waited for, so that its taps are gone when the caller hears of it.
    if (send_kill(spawned->pidfd.get())) {
      auto gone = co_await wait_for_end(spawned->pidfd.get(), kill_timeout);
      if (!gone)
        ready = Error{ready.error().code, ready.error().message + "; and it cannot be killed"};
    }
    co_return failed(ready.error());
  }
  guard.dismiss();
  VmProcess process;
  process.process = spawned->process;
  process.pidfd = std::move(spawned->pidfd);
  process.qmp_socket = files.qmp;
  process.log = files.log;
  process.serial = files.serial;
  co_return process;
}

Result<VmProcess> LocalHypervisor::adopt(const std::string& vm_name, const ProcessId& process) {
  auto pidfd = open_pidfd(process);
  if (!pidfd) return with_context("VM " + vm_name, pidfd.error());
  const VmFiles files(run_dir_ / vm_name);
  VmProcess adopted;
  adopted.process = process;
  adopted.pidfd = *std::move(pidfd);
  adopted.qmp_socket = files.qmp;
  adopted.log = files.log;
  adopted.serial = files.serial;
  return adopted;
}

Task<Result<void>> LocalHypervisor::kill(const VmProcess& process) {
  const auto context = "QEMU process " + std::to_string(process.process.pid);
  // A copy, since the caller's may be gone before this ends.
  UniqueFd pidfd(::fcntl(process.pidfd.get(), F_DUPFD_CLOEXEC, 0));
  if (!pidfd) {
    auto opened = open_pidfd(process.process);
    if (!opened && opened.error().code == Errc::not_found) co_return Result<void>();
    if (!opened) co_return with_context(context, opened.error());
    pidfd = *std::move(opened);
  }
  const auto socket = process.qmp_socket;
  if (auto sent = send_kill(pidfd.get()); !sent) co_return with_context(context, sent.error());
  auto gone = co_await wait_for_end(pidfd.get(), kill_timeout);
  if (!gone) co_return with_context(context + " does not die", gone.error());
  ::unlink(socket.c_str());
  co_return Result<void>();
}

}  // namespace tandem::hypervisor
