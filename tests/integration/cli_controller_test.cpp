// The commands that are about a VM's controller, with a real protected VM: recording and replaying
// what it decides, and watching it.
#include <gmock/gmock.h>
#include <signal.h>

#include "tests/integration/cli_runner.hpp"
#include "tests/integration/on_terminal.hpp"
#include "tests/integration/pair_life.hpp"

namespace tandem::integration {
namespace {

using cli::Ran;
using testing::ContainsRegex;
using testing::HasSubstr;
using Words = std::vector<std::string>;

class CliController : public PairLife {
 protected:
  Ran at_alpha(Words words) { return cli::tandem(alpha(), std::move(words)); }
  std::string socket() { return alpha().place().api_socket; }

  bool has_decided(std::uint64_t decisions) {
    return eventually(
        [&] { return vm(alpha())["controller"].value("decisions", 0u) >= decisions; });
  }
};

TEST_F(CliController, WhatARealPairDecidedIsDecidedAgainTheSame) {
  connect_client();
  auto ran = at_alpha({"protect", "demo", "--to", "beta", "--policy", "hybrid", "--set",
                       "colo_checkpoint_max_ms=1000"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const auto file = world_->directory() / "demo.recording";
  world::SpawnOptions spawn;
  spawn.argv = {TANDEM_PROGRAM, "record", "demo", "--output", file.string(), "--socket", socket()};
  spawn.stdout_file = world_->directory() / "record.out";
  spawn.stderr_file = world_->directory() / "record.err";
  auto recorder = world::Process::spawn(spawn);
  ASSERT_TRUE(recorder) << recorder.error().message;
  ASSERT_TRUE(has_decided(4));
  ran = at_alpha({"policy", "demo", "adaptive"});
  EXPECT_EQ(ran.out, "demo runs by policy adaptive\n") << ran.err;
  ASSERT_TRUE(has_decided(8));
  ran = at_alpha({"policy", "demo", "--set", "window_s=3", "--set", "period_ms=100"});
  EXPECT_EQ(ran.out, "demo runs by policy adaptive, with period_ms=100, window_s=3\n") << ran.err;
  ASSERT_TRUE(has_decided(12));
  ran = at_alpha({"mode", "demo", "periodic"});
  EXPECT_EQ(ran.out, "demo runs in periodic mode\n") << ran.err;
  ASSERT_TRUE(has_decided(20));
  expect_answers("while it was recorded");

  // What it is about, for people.
  ran = at_alpha({"policy", "demo"});
  EXPECT_THAT(ran.out, ContainsRegex("^VM +demo\npolicy +periodic\nstate +periodic\n"));
  EXPECT_THAT(ran.out, ContainsRegex("\nperiod_ms +100 +ms "));
  EXPECT_THAT(ran.out, ContainsRegex("\ncolo_checkpoint_max_ms +1000 +ms "));
  EXPECT_THAT(at_alpha({"status", "demo"}).out, ContainsRegex("\ncontroller +periodic, fixed; "));
  EXPECT_EQ(cli::tandem(beta(), {"policy", "demo"}).err,
            "tandem: demo has no controller here: ask on alpha, where it runs\n");

  ASSERT_TRUE(recorder->kill(SIGINT));
  const auto ended = recorder->wait(5s);
  ASSERT_TRUE(ended) << ended.error().message;
  EXPECT_TRUE(ended->success()) << ended->describe() << cli::content(spawn.stderr_file);
  EXPECT_THAT(cli::content(spawn.stdout_file),
              ContainsRegex("^demo: [0-9]+ records in " + file.string() + "\n$"));

  ran = cli::tandem({"replay", file, "--json"});
  EXPECT_EQ(ran.status, 0) << ran.out << ran.err;
  const auto replayed = ran.json();
  EXPECT_GE(replayed["decisions"], 20);
  EXPECT_EQ(replayed["changes"], 3);
  EXPECT_EQ(replayed["differences"], 0);
  EXPECT_EQ(replayed["policy"], "periodic");
  EXPECT_THAT(cli::tandem({"replay", file}).out, HasSubstr("Every decision is the recorded one."));
  ran = cli::tandem({"replay", file, "--policy", "colo", "--json"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_GT(ran.json()["differences"], 0);

  // Protection that ends is the end of a recording.
  spawn.argv[4] = world_->directory() / "second.recording";
  spawn.stdout_file = world_->directory() / "second.out";
  recorder = world::Process::spawn(spawn);
  ASSERT_TRUE(recorder) << recorder.error().message;
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(spawn.argv[4]); }));
  EXPECT_EQ(at_alpha({"unprotect", "demo"}).status, 0);
  const auto second = recorder->wait(5s);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE(second->success()) << cli::content(spawn.stderr_file);
  EXPECT_THAT(cli::content(spawn.stdout_file), HasSubstr("its protection here has ended"));
  EXPECT_EQ(cli::tandem({"replay", spawn.argv[4]}).status, 0);
}

TEST_F(CliController, TopShowsARealPairLiveAndGivesTheTerminalBack) {
  connect_client();
  const auto ran = at_alpha({"protect", "demo", "--to", "beta", "--policy", "hybrid"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Words top{TANDEM_PROGRAM, "top", "--interval", "0.2", "--socket", socket()};
  const Words environment{"TERM=xterm-256color", "LC_ALL=C.UTF-8", "NO_COLOR="};
  cli::OnTerminal terminal(top, {80, 24}, environment);
  if (!terminal.started()) GTEST_SKIP() << "no pseudoterminals here";
  const auto shows = [&](const std::string& what) {
    const auto shown =
        terminal.read_until([&](const auto& text) { return text.find(what) != std::string::npos; });
    EXPECT_THAT(shown, HasSubstr(what));
  };
  shows("tandem top on alpha, ");
  shows("primary   hybrid");
  shows("→ beta");
  shows("█");
  shows("\x1b[32mcolo");
  EXPECT_FALSE(terminal.is_cooked());
  {
    cli::OnTerminal plain(top, {80, 24}, {"TERM=xterm-256color", "LC_ALL=C", "NO_COLOR=1"});
    const auto shown =
        plain.read_until([](const auto& text) { return text.find("> beta") != std::string::npos; });
    EXPECT_THAT(shown, testing::Not(ContainsRegex("\x1b\\[3[0-9]m"))) << "a colour";
    EXPECT_THAT(shown, testing::Not(HasSubstr("\xe2"))) << "no character of ASCII";
  }
  // Another size is drawn anew, whole: then texts stand together that a change would only mend.
  terminal.press('>');
  terminal.clear();
  terminal.resize({120, 30});
  shows("1 VM, 1 protected");
  shows("< > sort: mode");
  // Control-Z gives the terminal back for a while.
  terminal.press('\x1a');
  ASSERT_TRUE(eventually([&] { return terminal.is_stopped(); }));
  EXPECT_TRUE(terminal.is_cooked());
  terminal.clear();
  ASSERT_EQ(::kill(terminal.pid(), SIGCONT), 0);
  shows("tandem top on alpha, ");
  EXPECT_FALSE(terminal.is_cooked());
  // A worker that dies takes the protection with it. The next one is found by itself.
  terminal.clear();
  ASSERT_EQ(::kill(worker(alpha()), SIGKILL), 0);
  ASSERT_TRUE(becomes(alpha(), "solo"));
  shows("alone and unprotected");
  terminal.clear();
  terminal.resize({80, 24});
  shows("1 VM, 0 protected");
  // So is a daemon that is gone, and comes back.
  ASSERT_TRUE(alpha().kill_everything());
  ASSERT_TRUE(eventually([&] { return !alpha().api().get("/v1/status", 1s); }));
  terminal.clear();
  terminal.resize({100, 24});
  shows("tandemd");
  start_daemon(alpha());
  terminal.clear();
  terminal.resize({80, 24});
  shows("tandem top on alpha, ");
  terminal.clear();
  terminal.press('q');
  EXPECT_EQ(terminal.wait(), 0);
  EXPECT_TRUE(terminal.is_cooked());

  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    cli::OnTerminal another(top, {80, 24}, environment);
    another.read_until([](const auto& text) { return text.find("PEER") != std::string::npos; });
    EXPECT_FALSE(another.is_cooked());
    ASSERT_EQ(::kill(another.pid(), signal), 0);
    EXPECT_EQ(another.wait(), 0) << signal;
    EXPECT_TRUE(another.is_cooked()) << signal;
  }
}

}  // namespace
}  // namespace tandem::integration
