// What `tandem` does on a terminal only: redrawing in place, and showing progress.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/cli_runner.hpp"
#include "tests/integration/on_terminal.hpp"

namespace tandem::cli {
namespace {

using testing::HasSubstr;

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
