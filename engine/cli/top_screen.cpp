#include "engine/cli/top_screen.hpp"

#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

// Else it calls functions of C++ by its own names.
#define NCURSES_NOMACROS
#include <curses.h>

namespace tandem::cli {
namespace {

using Style = Span::Style;

constexpr short periodic_colour = 1;
constexpr short colo_colour = 2;
constexpr short warning_colour = 3;
constexpr short error_colour = 4;
constexpr int escape_delay_ms = 25;

/// https://no-color.org
bool colour_is_wanted() {
  const char* no_colour = std::getenv("NO_COLOR");
  return no_colour == nullptr || *no_colour == '\0';
}

/// An exception that nobody catches ends the program without destructors.
std::terminate_handler former_terminate = nullptr;
[[noreturn]] void restore_and_terminate() {
  ::endwin();
  if (former_terminate != nullptr) former_terminate();
  std::abort();
}

}  // namespace

class TopScreen::Curses {
 public:
  explicit Curses(SCREEN* screen) : screen_(screen) {
    former_terminate = std::set_terminate(restore_and_terminate);
    ::cbreak();
    ::noecho();
    ::nonl();
    ::keypad(stdscr, TRUE);
    ::nodelay(stdscr, TRUE);
    ::set_escdelay(escape_delay_ms);
    ::curs_set(0);
    if (!colour_is_wanted() || !::has_colors() || ::start_color() == ERR) return;
    ::use_default_colors();
    ::init_pair(periodic_colour, COLOR_CYAN, -1);
    ::init_pair(colo_colour, COLOR_GREEN, -1);
    ::init_pair(warning_colour, COLOR_YELLOW, -1);
    ::init_pair(error_colour, COLOR_RED, -1);
    has_colour_ = true;
  }
  ~Curses() {
    ::endwin();
    ::delscreen(screen_);
    std::set_terminate(former_terminate);
  }
  Curses(const Curses&) = delete;
  Curses& operator=(const Curses&) = delete;

  [[nodiscard]] attr_t attributes(Style style) const {
    const auto colour = [this](short pair) {
      return has_colour_ ? static_cast<attr_t>(COLOR_PAIR(pair)) : A_NORMAL;
    };
    switch (style) {
      case Style::plain:
        return A_NORMAL;
      case Style::title:
        return A_BOLD;
      case Style::heading:
        return A_REVERSE;
      case Style::dim:
        return A_DIM;
      case Style::warning:
        return colour(warning_colour);
      case Style::error:
        return colour(error_colour) | A_BOLD;
      case Style::periodic:
        return colour(periodic_colour);
      case Style::colo:
        return colour(colo_colour);
    }
    return A_NORMAL;
  }

 private:
  SCREEN* screen_;
  bool has_colour_ = false;
};

Result<std::unique_ptr<TopScreen>> TopScreen::open() {
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDOUT_FILENO) != 1) {
    return Error{
        Errc::unavailable,
        "standard input and output are not a terminal; --once prints one frame, and --json "
        "what frames show"};
  }
  // initscr() would end the program.
  auto* screen = ::newterm(nullptr, stdout, stdin);
  const char* type = std::getenv("TERM");
  const auto problem = [&](const char* what) {
    return Error{Errc::unavailable, "the terminal type \"" +
                                        std::string(type != nullptr ? type : "") + "\" (TERM) " +
                                        what + "; --once prints one frame"};
  };
  if (screen == nullptr) return problem("is not known");
  if (::tigetstr("cup") == nullptr) {
    ::endwin();
    ::delscreen(screen);
    return problem("has no cursor that could be moved");
  }
  return std::unique_ptr<TopScreen>(new TopScreen(std::make_unique<Curses>(screen)));
}

TopScreen::TopScreen(std::unique_ptr<Curses> curses) : curses_(std::move(curses)) {}
TopScreen::~TopScreen() = default;

void TopScreen::paint(const Frame& frame) {
  ::werase(stdscr);
  for (std::size_t row = 0; row < frame.size(); ++row) {
    ::wmove(stdscr, static_cast<int>(row), 0);
    for (const auto& span : frame[row]) {
      (void)::wattrset(stdscr, static_cast<int>(curses_->attributes(span.style)));
      ::waddnstr(stdscr, span.text.data(), static_cast<int>(span.text.size()));
    }
  }
  ::wrefresh(stdscr);
}

void TopScreen::resize() {
  const auto size = terminal_size();
  ::resizeterm(static_cast<int>(size.rows), static_cast<int>(size.columns));
}

void TopScreen::suspend() {
  ::endwin();
  (void)::raise(SIGSTOP);
  // Whoever ran meanwhile has left the terminal as it liked; the next paint puts it right.
  ::clearok(stdscr, TRUE);
}

TopScreen::Key TopScreen::key() {
  for (;;) {
    switch (::wgetch(stdscr)) {
      case ERR:
        return Key::none;
      case 'q':
      case 'Q':
        return Key::quit;
      case KEY_UP:
      case 'k':
        return Key::up;
      case KEY_DOWN:
      case 'j':
        return Key::down;
      case KEY_PPAGE:
        return Key::page_up;
      case KEY_NPAGE:
      case ' ':
        return Key::page_down;
      case KEY_HOME:
      case 'g':
        return Key::home;
      case KEY_END:
      case 'G':
        return Key::end;
      case '>':
        return Key::next;
      case '<':
        return Key::previous;
      case 'r':
        return Key::reverse;
      default:
        break;  // no key of ours
    }
  }
}

bool terminal_is_utf8() {
  if (std::setlocale(LC_CTYPE, "") == nullptr) return false;
  return std::string_view(::nl_langinfo(CODESET)) == "UTF-8";
}

}  // namespace tandem::cli
