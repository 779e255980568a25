// Ctrl-C, a polite kill or a closed terminal, as something that can be waited for.
#pragma once

#include <chrono>

#include "base/unique_fd.hpp"

namespace tandem::demo {

class Interrupt {
 public:
  /// Make it before any thread exists: it blocks SIGINT, SIGTERM and SIGHUP in all of them.
  Interrupt();

  /// Sleeps until then; true at once if the program was interrupted, now or earlier.
  bool wait_until(std::chrono::steady_clock::time_point when);
  bool wait_for(std::chrono::milliseconds time) {
    return wait_until(std::chrono::steady_clock::now() + time);
  }
  bool raised() { return wait_for(std::chrono::milliseconds(0)); }

 private:
  UniqueFd signals_;
  bool raised_ = false;
};

}  // namespace tandem::demo
