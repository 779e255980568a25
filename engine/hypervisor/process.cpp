#include "engine/hypervisor/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <memory>

#include "base/file.hpp"

namespace tandem::hypervisor {
namespace {

constexpr std::size_t inherited_fds_max = 32;

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe", errno);
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

/// How many of `size` bytes could be read before the end of the stream.
std::size_t read_all(int fd, void* to, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const auto n = ::read(fd, static_cast<char*>(to) + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> to;
  to.reserve(texts.size() + 1);
  for (const auto& text : texts) to.push_back(const_cast<char*>(text.c_str()));
  to.push_back(nullptr);
  return to;
}

/// All that the child needs, made before the fork: afterwards, in a copy of a process that may have
/// had other threads, only async-signal-safe functions may be called (signal-safety(7)).
struct ChildPlan {
  const char* program = nullptr;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
  int null = -1, output = -1;
  const int* descriptors = nullptr;
  int descriptor_count = 0;
  int error_pipe = -1;  ///< takes the errno of what failed
  int pid_pipe = -1;    ///< detached only: takes the pid of the process that stays
  int go_pipe = -1;     ///< detached only: readable once the parent knows that process
  bool detached = false;
};

[[noreturn]] void fail_child(int error_pipe) {
  const int error = errno;
  if (::write(error_pipe, &error, sizeof error) < 0) ::_exit(126);
  ::_exit(127);
}

[[noreturn]] void run_child(const ChildPlan& plan) {
  int error_pipe = plan.error_pipe;
  int go_pipe = plan.go_pipe;
  if (plan.detached) {
    if (::setsid() < 0) fail_child(error_pipe);
    // The second fork makes it init's child, which collects its exit status, and keeps it from ever
    // getting a controlling terminal.
    const pid_t pid = ::fork();
    if (pid < 0) fail_child(error_pipe);
    if (pid > 0) {
      const bool told = ::write(plan.pid_pipe, &pid, sizeof pid) == sizeof pid;
      ::_exit(told ? 0 : 126);
    }
  }
  // Out of the way of the numbers that are about to be taken.
  const int base = first_inherited_fd + plan.descriptor_count + 1;
  std::array<int, inherited_fds_max> moved{};
  for (int i = 0; i < plan.descriptor_count; ++i) {
    moved[static_cast<std::size_t>(i)] = ::fcntl(plan.descriptors[i], F_DUPFD, base);
    if (moved[static_cast<std::size_t>(i)] < 0) fail_child(error_pipe);
  }
  const int null = ::fcntl(plan.null, F_DUPFD, base);
  const int output = ::fcntl(plan.output, F_DUPFD, base);
  if (null < 0 || output < 0) fail_child(error_pipe);
  if (go_pipe >= 0) go_pipe = ::fcntl(go_pipe, F_DUPFD, base);
  const int error_moved = ::fcntl(error_pipe, F_DUPFD_CLOEXEC, base);
  if (error_moved < 0) fail_child(error_pipe);
  error_pipe = ::dup3(error_moved, base - 1, O_CLOEXEC);
  if (error_pipe < 0) fail_child(error_moved);
  if (::dup2(null, 0) < 0 || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0) fail_child(error_pipe);
  for (int i = 0; i < plan.descriptor_count; ++i) {
    if (::dup2(moved[static_cast<std::size_t>(i)], first_inherited_fd + i) < 0)
      fail_child(error_pipe);
  }
  if (plan.detached) {
    // If the parent dies before it knows this process, nobody would ever find it: then it must not
    // run.
    char go = 0;
    ssize_t n = 0;
    do {
      n = ::read(go_pipe, &go, 1);
    } while (n < 0 && errno == EINTR);
    if (n != 1) ::_exit(126);
  }
  // Needs Linux 5.9, a year more than pidfds do.
  if (::syscall(SYS_close_range, static_cast<unsigned>(base), ~0u, 0u) != 0) fail_child(error_pipe);
  struct sigaction defaults {};
  defaults.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &defaults, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(plan.program, plan.arguments, plan.environment);
  fail_child(error_pipe);
}

Error exec_error(const std::filesystem::path& program, int error) {
  const auto what = "cannot start " + program.string();
  if (error == ENOENT || error == ENOTDIR) {
    return {Errc::not_found, what + ": there is no such program"};
  }
  return system_error(what, error);
}

}  // namespace

std::optional<ProcessId> process_id(pid_t pid) {
  if (pid <= 0) return std::nullopt;
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  if (!text) return std::nullopt;
  // proc(5): field 2 is the program's name in parentheses and may hold anything, also ") "; what
  // follows the last parenthesis starts with field 3, the state.
  const auto name_end = text->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::size_t at = name_end + 2;
  if (at >= text->size() || (*text)[at] == 'Z' || (*text)[at] == 'X') return std::nullopt;
  for (int field = 3; field < 22; ++field) {
    at = text->find(' ', at);
    if (at == std::string::npos) return std::nullopt;
    ++at;
  }
  ProcessId process{pid, 0};
  const auto* begin = text->data() + at;
  const auto parsed = std::from_chars(begin, text->data() + text->size(), process.start_ticks);
  if (parsed.ec != std::errc() || parsed.ptr == begin) return std::nullopt;
  return process;
}

std::vector<std::string> current_environment() {
  std::vector<std::string> variables;
  for (char** at = environ; at != nullptr && *at != nullptr; ++at) variables.emplace_back(*at);
  return variables;
}

Result<Spawned> spawn(const SpawnRequest& request) {
  assert(request.descriptors.size() <= inherited_fds_max && request.output >= 0);
  auto error_pipe = make_pipe();
  if (!error_pipe) return error_pipe.error();
  auto pid_pipe = make_pipe();
  if (!pid_pipe) return pid_pipe.error();
  auto go_pipe = make_pipe();
  if (!go_pipe) return go_pipe.error();
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null) return system_error("cannot open /dev/null", errno);

  std::vector<std::string> argument_texts{request.program.string()};
  argument_texts.insert(argument_texts.end(), request.arguments.begin(), request.arguments.end());
  const auto arguments = pointers(argument_texts);
  const auto environment = pointers(request.environment);
  ChildPlan plan;
  plan.program = request.program.c_str();
  plan.arguments = arguments.data();
  plan.environment = environment.data();
  plan.null = null.get();
  plan.output = request.output;
  plan.descriptors = request.descriptors.data();
  plan.descriptor_count = static_cast<int>(request.descriptors.size());
  plan.error_pipe = error_pipe->write.get();
  plan.detached = request.detached;
  if (plan.detached) {
    plan.pid_pipe = pid_pipe->write.get();
    plan.go_pipe = go_pipe->read.get();
  }

  // No signal handler of ours may run in the child.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t pid = ::fork();
  if (pid == 0) {
    // With its writing end open here, go_pipe would never end for a child whose parent has died.
    ::close(go_pipe->write.get());
    run_child(plan);
  }
  const int fork_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0)
    return system_error("cannot start " + request.program.string() + ": fork", fork_error);
  error_pipe->write.reset();
  pid_pipe->write.reset();  // go_pipe's reading end stays open, lest our write raise SIGPIPE

  if (request.detached) {
    pid_t grandchild = -1;
    const bool told =
        read_all(pid_pipe->read.get(), &grandchild, sizeof grandchild) == sizeof grandchild;
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!told) {
      int error = EIO;
      read_all(error_pipe->read.get(), &error, sizeof error);
      return exec_error(request.program, error);
    }
    pid = grandchild;
  }
  // A child stays until it is waited for, and a detached process waits for our word: the pid is its
  // own.
  Spawned spawned;
  const auto process = process_id(pid);
  spawned.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0u)));
  const int pidfd_error = errno;
  const auto abandon = [&] {
    if (!request.detached) {
      ::kill(pid, SIGKILL);
      while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
  };
  if (!spawned.pidfd) {
    abandon();
    return system_error("cannot watch " + request.program.string() + ": pidfd_open", pidfd_error);
  }
  if (process) spawned.process = *process;
  if (request.detached) {
    if (!process || ::write(go_pipe->write.get(), "g", 1) != 1) {
      return Error{Errc::io,
                   "cannot start " + request.program.string() + ": it was killed at once"};
    }
  } else if (!process) {
    spawned.process = {pid, 0};  // It has ended already; exit_status() will tell.
  }
  // The pipe ends without a word when exec succeeds.
  int error = 0;
  if (read_all(error_pipe->read.get(), &error, sizeof error) == sizeof error) {
    abandon();
    return exec_error(request.program, error);
  }
  return spawned;
}

Result<UniqueFd> open_pidfd(const ProcessId& process) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0u)));
  const int error = errno;
  // Looked at after the descriptor was opened: if it is the right process now, it was so then.
  if (!fd && error != ESRCH && error != EINVAL) {
    return system_error("cannot watch process " + std::to_string(process.pid), error);
  }
  if (!fd || process_id(process.pid) != process) {
    return Error{Errc::not_found, "process " + std::to_string(process.pid) + " has ended"};
  }
  return fd;
}

bool has_ended(int pidfd) {
  pollfd ended{pidfd, POLLIN, 0};
  return ::poll(&ended, 1, 0) == 1;
}

Task<Result<void>> wait_for_end(int pidfd, std::chrono::milliseconds timeout) {
  if (has_ended(pidfd)) co_return Result<void>();
  const auto executor = co_await asio::this_coro::executor;
  const int copy = ::fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) co_return system_error("cannot copy a pidfd", errno);
  // Shared with the timer's handler, which may run after this coroutine has ended.
  const auto end = std::make_shared<asio::posix::stream_descriptor>(executor, copy);
  asio::steady_timer timer(executor, timeout);
  timer.async_wait([end](const boost::system::error_code& ec) {
    if (!ec) end->cancel();
  });
  const auto [ec] = co_await end->async_wait(asio::posix::descriptor_base::wait_read, use_tuple);
  if (has_ended(pidfd)) co_return Result<void>();
  if (ec && ec != asio::error::operation_aborted) {
    co_return Error{Errc::io, "cannot wait for a process: " + ec.message()};
  }
  co_return Error{Errc::timed_out,
                  "the process has not ended within " + std::to_string(timeout.count()) + " ms"};
}

Result<void> send_kill(int pidfd) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0u) != 0 && errno != ESRCH) {
    return system_error("cannot kill the process", errno);
  }
  return {};
}

Result<int> exit_status(int pidfd) {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG) != 0) {
    return system_error("cannot collect an exit status", errno);
  }
  if (info.si_pid == 0) return Error{Errc::conflict, "the process still runs"};
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

}  // namespace tandem::hypervisor
