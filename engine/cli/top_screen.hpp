// A terminal that frames are painted on, by ncurses: as little is written as makes the difference
// to the frame before. However the program ends, short of SIGKILL, the terminal is as it was.
#pragma once

#include <memory>

#include "base/error.hpp"
#include "engine/cli/top_frame.hpp"

namespace tandem::cli {

class TopScreen {
 public:
  enum class Key { none, quit, up, down, page_up, page_down, home, end, next, previous, reverse };

  /// There is one at a time. Errc::unavailable if standard input and output are no terminal, or one
  /// that cannot be painted on.
  static Result<std::unique_ptr<TopScreen>> open();
  ~TopScreen();
  TopScreen(const TopScreen&) = delete;
  TopScreen& operator=(const TopScreen&) = delete;

  void paint(const Frame& frame);
  /// Takes over the terminal's size, which has changed.
  void resize();
  /// Gives the terminal back until the process goes on.
  void suspend();
  /// The next key that was pressed; none: there is none. Does not wait.
  Key key();

 private:
  class Curses;
  explicit TopScreen(std::unique_ptr<Curses> curses);
  std::unique_ptr<Curses> curses_;
};

/// Whether the locale of the environment writes UTF-8. Takes it over for characters.
bool terminal_is_utf8();

}  // namespace tandem::cli
