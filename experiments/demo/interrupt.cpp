#include "experiments/demo/interrupt.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

namespace tandem::demo {

Interrupt::Interrupt() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, signal);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw std::runtime_error("cannot wait for signals");
}

bool Interrupt::wait_until(std::chrono::steady_clock::time_point when) {
  while (!raised_) {
    const auto left = std::max(std::chrono::steady_clock::duration::zero(),
                               when - std::chrono::steady_clock::now());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec timeout{
        seconds.count(),
        std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds).count()};
    pollfd waiting{signals_.get(), POLLIN, 0};
    const int ready = ::ppoll(&waiting, 1, &timeout, nullptr);
    if (ready > 0) raised_ = true;
    if (ready == 0 || (ready < 0 && errno != EINTR)) break;
  }
  return raised_;
}

}  // namespace tandem::demo
