#include "engine/cli/output.hpp"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "engine/cli/format.hpp"

namespace tandem::cli {
namespace {

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    // A full disk or a closed pipe: the reader must not take half an answer for a whole one.
    if (n <= 0) ::_exit(exit_failed);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

volatile std::sig_atomic_t was_interrupted = 0;

void handle_interrupts(const struct sigaction& action) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

}  // namespace

bool stdout_is_terminal() noexcept {
  return ::isatty(STDOUT_FILENO) == 1;
}
bool stderr_is_terminal() noexcept {
  return ::isatty(STDERR_FILENO) == 1;
}

TerminalSize terminal_size() noexcept {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return {};
  }
  return {size.ws_col, size.ws_row};
}

void write_out(std::string_view text) {
  write_all(STDOUT_FILENO, text);
}
void write_error(std::string_view text) {
  write_all(STDERR_FILENO, text);
}

void print_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  write_out(text);
}

void print_json(const nlohmann::json& json) {
  write_out(dump(json, 2) + "\n");
}

int fail(const Error& error, bool json) {
  if (json) print_json(error_json(error));
  write_error("tandem: " + printable(error.message) + "\n");
  return exit_failed;
}

void end_on_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { ::_exit(exit_done); };
  handle_interrupts(action);
}

void note_interrupt() {
  was_interrupted = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { was_interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  handle_interrupts(action);
}

bool interrupted() noexcept {
  return was_interrupted != 0;
}

}  // namespace tandem::cli
