#include "experiments/world/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "experiments/world/net_namespace.hpp"

namespace tandem::world {
namespace {

constexpr std::size_t kOutputLimit = 1024 * 1024;

// What the child reports through a pipe when it cannot become the program.
struct SpawnFailure {
  int errno_value;
  std::array<char, 28> step;
};

[[noreturn]] void fail_in_child(int report_fd, const char* step) noexcept {
  SpawnFailure failure{errno, {}};
  std::strncpy(failure.step.data(), step, failure.step.size() - 1);
  [[maybe_unused]] const ssize_t written = ::write(report_fd, &failure, sizeof failure);
  ::_exit(127);
}

bool is_executable(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
}

std::string command_line(const std::vector<std::string>& argv) {
  std::string text;
  for (const auto& word : argv) {
    if (!text.empty()) text += ' ';
    text += word;
  }
  return text;
}

Result<UniqueFd> open_output(const std::filesystem::path& file) {
  const char* path = file.empty() ? "/dev/null" : file.c_str();
  UniqueFd fd(::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) return system_error(std::string("cannot open ") + path, errno);
  return fd;
}

struct Outputs {
  int standard_output;
  int standard_error;
};

// Everything between fork and exec: only calls that are safe after a fork of a threaded program.
[[noreturn]] void become(const char* file, char* const* argv, char* const* envp, int netns,
                         int standard_input, Outputs outputs, int report_fd) noexcept {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) ::signal(signal, SIG_DFL);
  // A session of its own keeps a Ctrl-C on the terminal from reaching the simulated hosts.
  ::setsid();
  if (netns >= 0) {
    if (::setns(netns, CLONE_NEWNET) != 0) fail_in_child(report_fd, "entering the namespace");
    if (::unshare(CLONE_NEWNS) != 0) fail_in_child(report_fd, "unsharing the mounts");
    // /sys/class/net shows the namespace in which it was mounted. Where it cannot be mounted again,
    // only programs that look there miss something.
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0) {
      [[maybe_unused]] const int mounted =
          ::mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
    }
  }
  if (::dup2(standard_input, 0) < 0 || ::dup2(outputs.standard_output, 1) < 0 ||
      ::dup2(outputs.standard_error, 2) < 0)
    fail_in_child(report_fd, "setting up its files");
  ::syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
  ::execve(file, argv, envp);
  fail_in_child(report_fd, "executing it");
}

Result<std::pair<pid_t, UniqueFd>> start(const SpawnOptions& options, Outputs outputs) {
  if (options.argv.empty()) return Error{Errc::invalid_input, "no program was given to start"};
  std::filesystem::path file = options.executable;
  if (file.empty()) {
    auto found = find_program(options.argv[0]);
    if (!found) return Error{Errc::not_found, "there is no program " + options.argv[0]};
    file = *found;
  } else if (!is_executable(file)) {
    return Error{Errc::not_found, "there is no program " + file.string()};
  }

  // All memory is allocated before the fork.
  std::vector<char*> argv;
  for (const auto& word : options.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> envp;
  const auto is_replaced = [&](const char* entry) {
    const char* end = std::strchr(entry, '=');
    if (end == nullptr) return false;
    const auto length = static_cast<std::size_t>(end - entry) + 1;
    for (const auto& added : options.environment)
      if (added.compare(0, length, entry, length) == 0) return true;
    return false;
  };
  for (char** entry = ::environ; *entry != nullptr; ++entry)
    if (!is_replaced(*entry)) envp.push_back(*entry);
  for (const auto& added : options.environment) envp.push_back(const_cast<char*>(added.c_str()));
  envp.push_back(nullptr);

  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null) return system_error("cannot open /dev/null", errno);
  std::array<int, 2> report{};
  if (::pipe2(report.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe", errno);
  UniqueFd report_read(report[0]);
  UniqueFd report_write(report[1]);

  const int netns = options.net != nullptr ? options.net->fd() : -1;
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot start " + file.string(), errno);
  if (pid == 0)
    become(file.c_str(), argv.data(), envp.data(), netns, null.get(), outputs, report_write.get());
  report_write.reset();

  SpawnFailure failure{};
  ssize_t got = 0;
  do {
    got = ::read(report_read.get(), &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  if (got != 0) {
    ::waitpid(pid, nullptr, 0);
    const std::string step = got == sizeof failure ? failure.step.data() : "starting";
    return system_error("cannot start " + file.string() + ", " + step,
                        got == sizeof failure ? failure.errno_value : EIO);
  }
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    const int problem = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return system_error("cannot watch " + file.string(), problem);
  }
  return std::pair(pid, std::move(pidfd));
}

std::string contents_from_start(int fd) {
  std::string text;
  std::array<char, 65536> buffer;
  while (text.size() < kOutputLimit) {
    const ssize_t got = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace

std::string ExitStatus::describe() const {
  std::ostringstream text;
  if (signalled) {
    text << "was killed by signal " << value << " (" << ::strsignal(value) << ")";
  } else {
    text << "exited with status " << value;
  }
  return text.str();
}

std::optional<std::filesystem::path> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    if (is_executable(name)) return name;
    return std::nullopt;
  }
  const char* path = std::getenv("PATH");
  // Ordinary users on Debian do not have the sbin folders in PATH, where ip and tc live.
  std::istringstream folders(std::string(path != nullptr ? path : "/usr/bin:/bin") +
                             ":/usr/local/sbin:/usr/sbin:/sbin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (folder.empty()) continue;
    auto candidate = std::filesystem::path(folder) / name;
    if (is_executable(candidate)) return candidate;
  }
  return std::nullopt;
}

Result<Process> Process::spawn(const SpawnOptions& options) {
  auto standard_output = open_output(options.stdout_file);
  if (!standard_output) return standard_output.error();
  auto standard_error = open_output(options.stderr_file);
  if (!standard_error) return standard_error.error();
  auto started = start(options, {standard_output->get(), standard_error->get()});
  if (!started) return started.error();
  return Process(started->first, std::move(started->second));
}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    finish();
    pid_ = other.pid_;
    pidfd_ = std::move(other.pidfd_);
    ended_ = other.ended_;
  }
  return *this;
}

Process::~Process() {
  finish();
}

void Process::finish() noexcept {
  if (!pidfd_ || ended_) return;
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  ::waitpid(pid_, nullptr, 0);
  pidfd_.reset();
}

bool Process::running() {
  return !wait(std::chrono::milliseconds(0)).has_value();
}

Result<void> Process::kill(int signal) {
  if (ended_) return {};
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) != 0 && errno != ESRCH)
    return system_error("cannot signal process " + std::to_string(pid_), errno);
  return {};
}

Result<ExitStatus> Process::wait(std::chrono::milliseconds timeout) {
  if (ended_) return *ended_;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd ready{pidfd_.get(), POLLIN, 0};
    const int result = ::poll(&ready, 1, static_cast<int>(std::max<long>(left.count(), 0)));
    if (result > 0) break;
    if (result < 0 && errno != EINTR) return system_error("cannot wait for a process", errno);
    if (std::chrono::steady_clock::now() >= deadline)
      return Error{Errc::timed_out, "process " + std::to_string(pid_) + " still runs after " +
                                        std::to_string(timeout.count()) + " ms"};
  }
  int status = 0;
  if (::waitpid(pid_, &status, 0) != pid_)
    return system_error("cannot reap process " + std::to_string(pid_), errno);
  ended_ = WIFSIGNALED(status) ? ExitStatus{true, WTERMSIG(status)}
                               : ExitStatus{false, WEXITSTATUS(status)};
  return *ended_;
}

Result<std::string> run(SpawnOptions options, std::chrono::milliseconds timeout) {
  // Anonymous files instead of pipes: a program that writes much cannot block on us.
  const UniqueFd output(::memfd_create("stdout", MFD_CLOEXEC));
  const UniqueFd errors(::memfd_create("stderr", MFD_CLOEXEC));
  if (!output || !errors) return system_error("cannot make a memory file", errno);
  const auto own = [](const UniqueFd& fd) {
    return std::filesystem::path("/proc/self/fd/" + std::to_string(fd.get()));
  };
  options.stdout_file = own(output);
  options.stderr_file = own(errors);
  auto process = Process::spawn(options);
  if (!process) return process.error();
  const auto ended = process->wait(timeout);
  if (!ended) return with_context(command_line(options.argv), ended.error());
  if (!ended->success()) {
    std::string said = contents_from_start(errors.get());
    while (!said.empty() && (said.back() == '\n' || said.back() == ' ')) said.pop_back();
    return Error{Errc::io, "`" + command_line(options.argv) + "` " + ended->describe() +
                               (said.empty() ? "" : ": " + said)};
  }
  return contents_from_start(output.get());
}

}  // namespace tandem::world
