#include "experiments/world/sandbox.hpp"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "base/unique_fd.hpp"

namespace tandem::world {
namespace {

// What the new namespace's init reports through a pipe: a failed step, or (errno_value 0) success.
struct Report {
  int errno_value;
  std::array<char, 60> step;
};

void write_report(int fd, int errno_value, const char* step) {
  Report report{errno_value, {}};
  std::strncpy(report.step.data(), step, report.step.size() - 1);
  [[maybe_unused]] const ssize_t written = ::write(fd, &report, sizeof report);
}

bool write_file(const char* path, const std::string& text) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

bool loopback_up() {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  return fd && ::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

const char* set_up_namespaces(bool user_namespace, uid_t uid, gid_t gid) {
  if (user_namespace) {
    if (!write_file("/proc/self/setgroups", "deny") && errno != ENOENT)
      return "giving up the right to set groups";
    if (!write_file("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1"))
      return "mapping the user";
    if (!write_file("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1"))
      return "mapping the group";
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return "making the mounts private";
  if (::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
    return "mounting /proc";
  // Only programs that look into /sys/class/net would miss it.
  [[maybe_unused]] const int mounted =
      ::mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
  if (!loopback_up()) return "taking the loopback up";
  return nullptr;
}

sigset_t forwarded_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::sigaddset(&set, signal);
  return set;
}

// Passes signals on to `child` until it has ended, reaps everybody else's orphans, and returns the
// exit status to end with (128 + signal for a child that was killed).
int watch_over(pid_t child, const sigset_t& signals) {
  for (;;) {
    for (;;) {
      int status = 0;
      const pid_t ended = ::waitpid(-1, &status, WNOHANG);
      if (ended == child) return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      if (ended <= 0) break;
    }
    siginfo_t info{};
    const int signal = ::sigwaitinfo(&signals, &info);
    // A terminal sends its Ctrl-C to all of us; only what another process sent is passed on.
    if (signal > 0 && signal != SIGCHLD && info.si_code != SI_KERNEL) ::kill(child, signal);
  }
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

Error refused(bool user_namespace, int errno_value, const std::string& step) {
  std::string message =
      "this machine does not let " + std::string(user_namespace ? "you" : "root") +
      " make private namespaces (" + step + ": " + std::strerror(errno_value) + ")";
  if (first_line("/proc/sys/user/max_user_namespaces") == "0") {
    message +=
        ": user namespaces are disabled; `sysctl user.max_user_namespaces=10000` enables them";
  } else if (first_line("/proc/sys/kernel/unprivileged_userns_clone") == "0") {
    message +=
        ": user namespaces are for root only; run this as root, or `sysctl "
        "kernel.unprivileged_userns_clone=1`";
  } else if (first_line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1") {
    message +=
        ": AppArmor restricts user namespaces; run this as root, or `sysctl "
        "kernel.apparmor_restrict_unprivileged_userns=0`";
  } else if (user_namespace) {
    message +=
        ": run this as root; in a container, give it the capability SYS_ADMIN and an unmasked "
        "/proc";
  }
  return {Errc::permission, std::move(message)};
}

// In the new process namespace, as its process 1. Returns only in the program, its child.
void run_init(bool user_namespace, uid_t uid, gid_t gid, int report_fd, int outside_fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The process outside may have died before the line above; then its end of this pipe is closed.
  pollfd outside{outside_fd, 0, 0};
  if (::poll(&outside, 1, 0) != 0) ::_exit(1);
  if (const char* failed = set_up_namespaces(user_namespace, uid, gid); failed != nullptr) {
    write_report(report_fd, errno, failed);
    ::_exit(1);
  }
  const sigset_t signals = forwarded_signals();
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  const pid_t program = ::fork();
  if (program < 0) {
    write_report(report_fd, errno, "starting the program");
    ::_exit(1);
  }
  if (program == 0) {
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    write_report(report_fd, 0, "");
    return;
  }
  ::close(report_fd);
  ::_exit(watch_over(program, signals));
}

Result<void> try_to_enter(bool user_namespace) {
  std::array<int, 2> report{};
  std::array<int, 2> outside{};
  if (::pipe2(report.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe", errno);
  UniqueFd report_read(report[0]);
  UniqueFd report_write(report[1]);
  if (::pipe2(outside.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe", errno);
  UniqueFd outside_read(outside[0]);
  UniqueFd outside_write(outside[1]);

  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  // What is buffered now would be written by every process that inherits it.
  std::fflush(nullptr);
  const sigset_t signals = forwarded_signals();
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  const unsigned long flags =
      CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | SIGCHLD | (user_namespace ? CLONE_NEWUSER : 0UL);
  const long init = ::syscall(SYS_clone, flags, nullptr, nullptr, nullptr, nullptr);
  if (init < 0) {
    const int problem = errno;
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    return refused(user_namespace, problem, "clone");
  }
  if (init == 0) {
    report_read.reset();
    outside_write.reset();
    run_init(user_namespace, uid, gid, report_write.get(), outside_read.get());
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    return {};
  }
  report_write.reset();
  Report result{};
  ssize_t got = 0;
  do {
    got = ::read(report_read.get(), &result, sizeof result);
  } while (got < 0 && errno == EINTR);
  if (got == sizeof result && result.errno_value == 0)
    ::_exit(watch_over(static_cast<pid_t>(init), signals));
  ::waitpid(static_cast<pid_t>(init), nullptr, 0);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (got != sizeof result)
    return Error{Errc::unavailable, "the sandbox ended before the program started in it"};
  return refused(user_namespace, result.errno_value, result.step.data());
}

}  // namespace

Result<void> enter_sandbox() {
  if (::geteuid() == 0) {
    auto entered = try_to_enter(false);
    if (entered) return entered;
    // A root without CAP_SYS_ADMIN, as in most containers, may still make a user namespace.
    if (auto second = try_to_enter(true); second) return second;
    return entered;
  }
  return try_to_enter(true);
}

}  // namespace tandem::world
