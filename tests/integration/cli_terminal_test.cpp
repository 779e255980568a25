// What `tandem` does on a terminal only: redrawing in place, and showing progress.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.hpp"
#include "tests/integration/cli_runner.hpp"

namespace tandem::cli {
namespace {

using testing::HasSubstr;

/// A program on a terminal of its own, 60 columns wide.
class OnTerminal {
 public:
  explicit OnTerminal(std::vector<std::string> argv) {
    std::vector<char*> words;
    for (auto& word : argv) words.push_back(word.data());
    words.push_back(nullptr);
    winsize size{};
    size.ws_col = 60;
    size.ws_row = 20;
    int master = -1;
    pid_ = ::forkpty(&master, nullptr, nullptr, &size);
    if (pid_ == 0) {
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
  void press(char key) { EXPECT_EQ(::write(master_.get(), &key, 1), 1); }
  int wait() {
    read_until([](const auto&) { return false; });
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = -1;
  UniqueFd master_;
  std::string shown_;
};

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(CliTerminal, WatchRedrawsInPlaceUntilControlC) {
  auto world = world::World::make({});
  ASSERT_TRUE(world) << world.error().message;
  auto options = daemon_options();
  options.vms = {small_vm("web")};
  const auto begun = world->alpha().start_daemon(options);
  ASSERT_TRUE(begun) << begun.error().message;
  OnTerminal watch(
      {TANDEM_PROGRAM, "status", "--watch", "--socket", world->alpha().place().api_socket});
  if (!watch.started()) GTEST_SKIP() << "no pseudoterminals here";
  const auto shown = watch.read_until([](const auto& text) { return count(text, "\x1b[J") >= 3; });
  EXPECT_EQ(count(shown, "\x1b[2J"), 1u) << "the screen is cleared once";
  EXPECT_GE(count(shown, "\x1b[H"), 3u) << "then drawn over";
  EXPECT_THAT(shown, HasSubstr("…\x1b[K")) << "what is wider than the terminal is cut";
  watch.press('\x03');
  EXPECT_EQ(watch.wait(), 0);
}

TEST(CliTerminal, ADaemonThatGoesAwayIsShownWhileWatching) {
  auto world = world::World::make({});
  ASSERT_TRUE(world) << world.error().message;
  const auto begun = world->alpha().start_daemon(daemon_options());
  ASSERT_TRUE(begun) << begun.error().message;
  OnTerminal watch(
      {TANDEM_PROGRAM, "status", "--watch", "--socket", world->alpha().place().api_socket});
  if (!watch.started()) GTEST_SKIP() << "no pseudoterminals here";
  watch.read_until([](const auto& text) { return count(text, "\x1b[J") >= 1; });
  ASSERT_TRUE(world->alpha().kill_everything());
  EXPECT_THAT(watch.read_until([](const auto& text) {
    return text.find("nobody listens") != std::string::npos;
  }),
              HasSubstr("nobody listens"));
  watch.press('\x03');
  EXPECT_EQ(watch.wait(), 0);
}

TEST(CliTerminal, ProtectingShowsItsProgress) {
  if (!std::filesystem::exists("/usr/bin/qemu-system-x86_64"))
    GTEST_SKIP() << "QEMU is not installed";
  if (!std::filesystem::exists("/dev/net/tun")) GTEST_SKIP() << "/dev/net/tun is missing";
  auto world = world::World::make({});
  ASSERT_TRUE(world) << world.error().message;
  auto options = daemon_options();
  options.vms = {small_vm("web")};
  const auto alpha = world->alpha().start_daemon(options);
  ASSERT_TRUE(alpha) << alpha.error().message;
  const auto beta = world->beta().start_daemon(daemon_options());
  ASSERT_TRUE(beta) << beta.error().message;
  ASSERT_EQ(tandem(world->alpha(), {"vm", "start", "web"}).status, 0);
  OnTerminal protect({TANDEM_PROGRAM, "protect", "web", "--to", "beta", "--socket",
                      world->alpha().place().api_socket});
  if (!protect.started()) GTEST_SKIP() << "no pseudoterminals here";
  const auto shown = protect.read_until([](const auto& text) {
    return text.find("web is protected by beta\r\n") != std::string::npos;
  });
  EXPECT_THAT(shown, HasSubstr("web is protected by beta\r\n"));
  EXPECT_THAT(shown, HasSubstr("protecting  synchronising with beta"));
  EXPECT_THAT(shown, HasSubstr(" sent, "));
  EXPECT_EQ(protect.wait(), 0);
}

}  // namespace
}  // namespace tandem::cli
