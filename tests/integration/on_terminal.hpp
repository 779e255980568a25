// Runs a program on a terminal, as a user sees it.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"

namespace tandem::cli {

/// A program on a terminal of its own.
class OnTerminal {
 public:
  struct Size {
    unsigned short columns = 60, rows = 20;
  };

  /// `environment`: "NAME=value", added to this process's.
  explicit OnTerminal(std::vector<std::string> argv) : OnTerminal(std::move(argv), Size{}, {}) {}
  OnTerminal(std::vector<std::string> argv, Size size, std::vector<std::string> environment) {
    std::vector<char*> words;
    for (auto& word : argv) words.push_back(word.data());
    words.push_back(nullptr);
    auto window = window_of(size);
    int master = -1;
    pid_ = ::forkpty(&master, nullptr, nullptr, &window);
    if (pid_ == 0) {
      for (auto& variable : environment) ::putenv(variable.data());
      ::execv(words[0], words.data());
      ::_exit(127);
    }
    master_.reset(master);
  }
  ~OnTerminal() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  OnTerminal(const OnTerminal&) = delete;
  OnTerminal& operator=(const OnTerminal&) = delete;

  [[nodiscard]] bool started() const { return pid_ > 0; }
  [[nodiscard]] pid_t pid() const { return pid_; }

  /// Reads until `enough` says so, the program ends, or 20 s have passed; returns all that was
  /// shown.
  template <class Enough>
  const std::string& read_until(Enough enough) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!enough(shown_) && std::chrono::steady_clock::now() < deadline) {
      pollfd ready{master_.get(), POLLIN, 0};
      if (::poll(&ready, 1, 1000) <= 0) continue;
      char piece[4096];
      const auto n = ::read(master_.get(), piece, sizeof piece);
      if (n <= 0) break;
      shown_.append(piece, static_cast<std::size_t>(n));
    }
    return shown_;
  }
  /// Forgets what was shown.
  void clear() { shown_.clear(); }
  void press(char key) { EXPECT_EQ(::write(master_.get(), &key, 1), 1); }
  void resize(Size size) {
    auto window = window_of(size);
    EXPECT_EQ(::ioctl(master_.get(), TIOCSWINSZ, &window), 0);
  }
  /// Whether what is typed is shown, and comes in lines: as a shell left it.
  [[nodiscard]] bool is_cooked() const {
    termios settings{};
    EXPECT_EQ(::tcgetattr(master_.get(), &settings), 0);
    return (settings.c_lflag & (ECHO | ICANON)) == (ECHO | ICANON);
  }
  /// Whether a signal has stopped it.
  [[nodiscard]] bool is_stopped() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
    std::string stat;
    std::getline(file, stat);
    const auto name_end = stat.rfind(") ");
    return name_end != std::string::npos && stat[name_end + 2] == 'T';
  }
  int wait() {
    read_until([](const auto&) { return false; });
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status);
  }

 private:
  static winsize window_of(Size size) {
    winsize window{};
    window.ws_col = size.columns;
    window.ws_row = size.rows;
    return window;
  }

  pid_t pid_ = -1;
  UniqueFd master_;
  std::string shown_;
};

}  // namespace tandem::cli
