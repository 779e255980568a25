#include "engine/daemon/guardian.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>

#include "base/unique_fd.hpp"

namespace tandem::daemon {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

// Until its first sign of life a worker reads its configuration and its state files.
constexpr auto first_sign_limit = 10s;
constexpr auto shut_down_limit = 8s;
// A worker that dies this often in this time will not get better by itself.
constexpr std::size_t deaths_max = 10;
constexpr auto deaths_window = 20s;

struct Worker {
  pid_t pid = -1;
  UniqueFd life_signs;
};

Worker start_worker(const GuardianOptions& options, const sigset_t& old_mask) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  Worker worker;
  worker.life_signs.reset(ends[0]);
  UniqueFd for_child(ends[1]);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  ::fcntl(ends[1], F_SETFL, O_NONBLOCK);

  auto arguments = options.worker;
  arguments.push_back("--life-sign");
  arguments.push_back(std::to_string(ends[1]));
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  const auto guardian = ::getpid();
  worker.pid = ::fork();
  if (worker.pid == 0) {
    // A worker without its guardian would be a daemon that nobody watches.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != guardian) ::_exit(1);
    ::sigprocmask(SIG_SETMASK, &old_mask, nullptr);
    ::fcntl(ends[1], F_SETFD, 0);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(127);
  }
  return worker;
}

/// Counts a worker's silence in ticks of the guardian's own, so that a machine which stood still
/// for a while is not taken for a worker that did.
class Silence {
 public:
  static constexpr int ticks = 10;

  void allow(std::chrono::milliseconds limit) {
    tick_ = limit / ticks;
    silent_ = 0;
  }
  void tick() { ++silent_; }
  [[nodiscard]] bool too_long() const { return silent_ > ticks; }
  [[nodiscard]] std::chrono::milliseconds interval() const { return tick_; }

 private:
  std::chrono::milliseconds tick_{0};
  int silent_ = 0;
};

/// Reads what there is; true if anything was.
bool read_signs(int fd) {
  char bytes[256];
  bool any = false;
  while (::read(fd, bytes, sizeof bytes) > 0) any = true;
  return any;
}

}  // namespace

int run_guardian(const GuardianOptions& options) {
  sigset_t mask, old_mask;
  sigemptyset(&mask);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&mask, signal);
  ::sigprocmask(SIG_BLOCK, &mask, &old_mask);
  const UniqueFd signals(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));

  std::deque<steady_clock::time_point> deaths;
  auto worker = start_worker(options, old_mask);
  Silence silence;
  silence.allow(first_sign_limit);
  bool stopping = false;
  while (worker.pid > 0) {
    pollfd watched[2] = {{signals.get(), POLLIN, 0}, {worker.life_signs.get(), POLLIN, 0}};
    // Of a worker that has closed its pipe, or was told to end, only its exit counts.
    const nfds_t count = worker.life_signs && !stopping ? 2 : 1;
    const int ready = ::poll(watched, count, static_cast<int>(silence.interval().count()));
    if (ready == 0) silence.tick();
    if (!stopping && read_signs(worker.life_signs.get())) {
      silence.allow(options.hang_timeout);
    } else if ((watched[1].revents & POLLHUP) != 0) {
      worker.life_signs.reset();
    }
    signalfd_siginfo info;
    while (::read(signals.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
        stopping = true;
        silence.allow(shut_down_limit);
        ::kill(worker.pid, SIGTERM);
      }
    }
    int status = 0;
    const bool ended = ::waitpid(worker.pid, &status, WNOHANG) == worker.pid;
    if (!ended) {
      if (silence.too_long()) {
        spdlog::error("the worker (pid {}) gives no sign of life; it is killed", worker.pid);
        ::kill(worker.pid, SIGKILL);
        // SIGKILL cannot be refused; its end is told by SIGCHLD.
        silence.allow(shut_down_limit);
      }
      continue;
    }
    if (WIFEXITED(status)) return stopping ? 0 : WEXITSTATUS(status);
    if (stopping) return 1;
    spdlog::error("the worker (pid {}) was ended by signal {} ({})", worker.pid, WTERMSIG(status),
                  ::strsignal(WTERMSIG(status)));
    const auto now = steady_clock::now();
    deaths.push_back(now);
    while (now - deaths.front() > deaths_window) deaths.pop_front();
    if (deaths.size() > deaths_max) {
      spdlog::critical("the worker died {} times in {} s; giving up", deaths.size(),
                       std::chrono::seconds(deaths_window).count());
      return 1;
    }
    worker = start_worker(options, old_mask);
    silence.allow(first_sign_limit);
  }
  spdlog::critical("cannot start the worker: {}", std::strerror(errno));
  return 1;
}

}  // namespace tandem::daemon
