#include "experiments/demo/display.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

namespace tandem::demo {
namespace {

constexpr std::chrono::seconds kPlainStatusInterval{5};
constexpr const char* kPlain = "";
constexpr const char* kBold = "\033[1m";
constexpr const char* kDim = "\033[2m";
constexpr const char* kGreen = "\033[32m";
constexpr const char* kRed = "\033[31m";
constexpr const char* kCyan = "\033[36m";

std::size_t width_of(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 80;
  return size.ws_col;
}

}  // namespace

Display::Display(std::FILE* out, bool verbose)
    : out_(out),
      verbose_(verbose),
      terminal_(::isatty(::fileno(out)) == 1),
      colours_(terminal_ && std::getenv("NO_COLOR") == nullptr),
      start_(std::chrono::steady_clock::now()),
      last_line_(start_) {}

void Display::clear_status() {
  if (status_shown_) std::fputs("\r\033[K", out_);
  std::fflush(out_);
  status_shown_ = false;
}

void Display::line(const char* colour, const std::string& mark, const std::string& text) {
  clear_status();
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - start_).count();
  std::fprintf(out_, "%8.3f s  %s%s%s%s\n", seconds, colours_ ? colour : "", mark.c_str(),
               text.c_str(), colours_ && *colour != '\0' ? "\033[0m" : "");
  std::fflush(out_);
  last_line_ = now;
}

void Display::heading(const std::string& text) {
  clear_status();
  std::fputs("\n", out_);
  line(kBold, "== ", text);
}

void Display::step(const std::string& text) {
  line(kPlain, "-> ", text);
}

void Display::event(const std::string& host, const std::string& text) {
  line(kCyan, "   " + host + ": ", text);
}

void Display::good(const std::string& text) {
  line(kGreen, "ok ", text);
}

void Display::bad(const std::string& text) {
  line(kRed, "!! ", text);
}

void Display::detail(const std::string& text) {
  if (verbose_) line(kDim, "   . ", text);
}

void Display::status(const std::string& text) {
  if (!terminal_) {
    if (std::chrono::steady_clock::now() - last_line_ >= kPlainStatusInterval)
      line(kPlain, "   ", text);
    return;
  }
  // A line that wraps could not be rewritten in place.
  const std::size_t width = width_of(out_) - 1;
  std::fprintf(out_, "\r\033[K%.*s", static_cast<int>(width), ("            " + text).c_str());
  std::fflush(out_);
  status_shown_ = true;
}

}  // namespace tandem::demo
