// The command line, word by word.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/cli/arguments.hpp"
#include "engine/cli/commands.hpp"

namespace tandem::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

template <class T>
T command(const Words& words) {
  const auto parsed = parse_arguments(words, "");
  if (!parsed) {
    ADD_FAILURE() << parsed.error().message;
    return {};
  }
  const auto* found = std::get_if<T>(&parsed->command);
  EXPECT_NE(found, nullptr) << "another command";
  return found != nullptr ? *found : T{};
}

TEST(CliArguments, EveryCommandIsUnderstood) {
  EXPECT_EQ(command<StatusCommand>({"status"}).vm, "");
  EXPECT_EQ(command<StatusCommand>({"status", "web", "--watch"}).vm, "web");
  EXPECT_TRUE(command<StatusCommand>({"status", "--watch"}).watch);
  EXPECT_EQ(command<EventsCommand>({"events", "--after", "17"}).after, 17u);
  EXPECT_TRUE(command<EventsCommand>({"events", "--follow"}).follow);
  command<ListCommand>({"vm", "list"});
  EXPECT_EQ(command<ChangeCommand>({"vm", "start", "web"}).action, "start");
  EXPECT_EQ(command<ChangeCommand>({"vm", "stop", "web"}).action, "stop");
  EXPECT_EQ(command<ChangeCommand>({"unprotect", "web"}).action, "unprotect");
  EXPECT_EQ(command<ChangeCommand>({"failover", "web"}).vm, "web");
  const auto protect = command<ProtectCommand>({"protect", "web", "--to", "beta"});
  EXPECT_EQ(protect.vm, "web");
  EXPECT_EQ(protect.peer, "beta");
  EXPECT_TRUE(protect.choice.empty()) << "it is left to the daemon's configuration";
  const auto mode = command<ModeCommand>({"mode", "web", "colo"});
  EXPECT_EQ(mode.vm, "web");
  EXPECT_EQ(mode.mode, "colo");
  EXPECT_EQ(command<ModeCommand>({"mode", "web", "periodic"}).mode, "periodic");
  const auto record = command<RecordCommand>({"record", "web", "--output", "f"});
  EXPECT_EQ(record.vm, "web");
  EXPECT_EQ(record.file, "f");
  EXPECT_EQ(record.seconds, 0u);
  EXPECT_EQ(command<RecordCommand>({"record", "web", "--output", "-", "--seconds", "9"}).seconds,
            9u);
  EXPECT_EQ(command<ReplayCommand>({"replay", "f"}).file, "f");
  EXPECT_TRUE(command<ReplayCommand>({"replay", "f"}).otherwise.empty());
  const auto trace = command<TraceCommand>({"trace", "web", "--pcap", "a.pcapng"});
  EXPECT_EQ(trace.vm, "web");
  EXPECT_EQ(trace.file, "a.pcapng");
  EXPECT_EQ(trace.seconds, 0u);
  EXPECT_EQ(command<TraceCommand>({"trace", "web", "--pcap", "-", "--seconds", "30"}).seconds, 30u);
  EXPECT_EQ(command<TraceCommand>({"trace", "web", "--json"}).file, "");
  EXPECT_EQ(command<DoctorCommand>({"doctor"}).config, "/etc/tandem/tandemd.toml");
  EXPECT_EQ(command<DoctorCommand>({"doctor", "--config", "x.toml", "--peer", "beta"}).peer,
            "beta");
}

TEST(CliArguments, EveryPolicyAndParameterIsUnderstood) {
  for (const std::string policy : {"periodic", "colo", "threshold", "hybrid", "adaptive"}) {
    EXPECT_EQ(command<ProtectCommand>({"protect", "web", "--to", "beta", "--policy", policy})
                  .choice.policy,
              policy);
    EXPECT_EQ(command<PolicyCommand>({"policy", "web", policy}).change.policy, policy);
    EXPECT_EQ(command<ReplayCommand>({"replay", "f", "--policy", policy}).otherwise.policy, policy);
  }
  const std::map<std::string, double> both{{"window_s", 20}, {"hybrid_gain", 0.5}};
  EXPECT_EQ(command<ProtectCommand>(
                {"protect", "--set", "window_s=20", "web", "--to", "beta", "--set=hybrid_gain=0.5"})
                .choice.parameters,
            both);
  const auto policy = command<PolicyCommand>(
      {"policy", "--set", "window_s=20", "web", "--set", "hybrid_gain=0.5", "hybrid"});
  EXPECT_EQ(policy.vm, "web");
  EXPECT_EQ(policy.change.policy, "hybrid");
  EXPECT_EQ(policy.change.parameters, both);
  EXPECT_EQ(command<ReplayCommand>({"replay", "--set", "window_s=20", "f"}).otherwise.parameters,
            (std::map<std::string, double>{{"window_s", 20}}));
  EXPECT_TRUE(command<PolicyCommand>({"policy", "web"}).change.empty()) << "it is shown";
}

TEST(CliArguments, TopShowsAllVmsOrSome) {
  const auto all = command<TopCommand>({"top"});
  EXPECT_TRUE(all.vms.empty());
  EXPECT_EQ(all.interval_s, 2);
  EXPECT_FALSE(all.once);
  EXPECT_EQ(all.sort, TopColumn::name);
  const auto some =
      command<TopCommand>({"top", "a", "--interval", "0.5", "b", "--once", "--sort", "ratio"});
  EXPECT_THAT(some.vms, ElementsAre("a", "b"));
  EXPECT_EQ(some.interval_s, 0.5);
  EXPECT_TRUE(some.once);
  EXPECT_EQ(some.sort, TopColumn::ratio);
}

TEST(CliArguments, CommonOptionsStandBeforeAndAfterTheCommand) {
  for (const Words& words : {Words{"--socket", "/s", "--json", "vm", "list"},
                             Words{"vm", "--socket", "/s", "--json", "list"},
                             Words{"vm", "list", "--json", "--socket=/s"}}) {
    const auto parsed = parse_arguments(words, "/environment");
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->socket, "/s");
    EXPECT_TRUE(parsed->json);
  }
}

TEST(CliArguments, TheSocketComesFromTheEnvironmentOrIsTheUsualOne) {
  EXPECT_EQ(parse_arguments({"status"}, "/environment")->socket, "/environment");
  EXPECT_EQ(parse_arguments({"status"}, "")->socket, "/run/tandem/api.sock");
}

TEST(CliArguments, WhatIsWrongIsNamed) {
  const std::vector<std::pair<Words, std::string>> cases{
      {{}, "subcommand is required"},
      {{"vm"}, "subcommand is required"},
      {{"nonsense"}, "nonsense"},
      {{"status", "--nonsense"}, "--nonsense"},
      {{"status", "a", "b"}, "b"},
      {{"status", "../etc"}, "\"../etc\" is not a name"},
      {{"status", "a b"}, "\"a b\" is not a name"},
      {{"vm", "start"}, "VM is required"},
      {{"protect", "web"}, "--to is required"},
      {{"protect", "web", "--to", "a/b"}, "\"a/b\" is not a name"},
      {{"protect", "web", "--to", "beta", "--policy", "hybird"}, "--policy"},
      {{"protect", "web", "--to", "beta", "--set", "windows=1"}, "windows is not a parameter"},
      {{"policy"}, "VM is required"},
      {{"policy", "web", "hybird"}, "POLICY"},
      {{"policy", "web", "--set", "window_s"}, "is not NAME=VALUE"},
      {{"policy", "web", "--set", "window_s=601"}, "window_s is 601; expected 1 to 600"},
      {{"policy", "web", "--set", "window_s=1", "--set", "window_s=2"}, "window_s is set twice"},
      {{"record", "web"}, "--output is required"},
      {{"record", "web", "--output", ""}, "--output"},
      {{"record", "web", "--output", "f", "--seconds", "0"}, "--seconds"},
      {{"replay"}, "FILE is required"},
      {{"replay", "f", "--policy", "hybird"}, "--policy"},
      {{"top", "--interval", "0.01"}, "--interval"},
      {{"top", "--interval", "x"}, "--interval"},
      {{"top", "--sort", "age"}, "--sort"},
      {{"top", "a b"}, "\"a b\" is not a name"},
      {{"mode", "web"}, "MODE is required"},
      {{"mode", "web", "hybrid"}, "MODE"},
      {{"mode", "a b", "colo"}, "\"a b\" is not a name"},
      {{"trace", "web"}, "--pcap is required"},
      {{"trace", "web", "--json", "--pcap", "f"}, "--pcap excludes --json"},
      {{"trace", "web", "--pcap", ""}, "--pcap"},
      {{"trace", "--pcap", "f"}, "VM is required"},
      {{"trace", "web", "--pcap", "f", "--seconds", "0"}, "--seconds"},
      {{"trace", "web", "--pcap", "f", "--seconds", "-1"}, "--seconds"},
      {{"trace", "web", "--pcap", "f", "--seconds", "1000001"}, "--seconds"},
      {{"events", "--after", "x"}, "--after"},
      {{"events", "--after", "-1"}, "--after"},
      {{"--socket", "", "status"}, "--socket"},
  };
  for (const auto& [words, expected] : cases) {
    const auto parsed = parse_arguments(words, "");
    ASSERT_FALSE(parsed) << expected;
    EXPECT_EQ(parsed.error().code, Errc::invalid_input);
    EXPECT_THAT(parsed.error().message, HasSubstr(expected));
    EXPECT_THAT(parsed.error().message, HasSubstr("--help)"));
  }
}

TEST(CliArguments, HelpAndVersionAreTexts) {
  EXPECT_THAT(command<ShowCommand>({"--version"}).text, "tandem " TANDEM_VERSION "\n");
  const auto help = command<ShowCommand>({"--help"}).text;
  for (const char* name : {"status", "events", "vm", "protect", "policy", "mode", "unprotect",
                           "failover", "top", "record", "replay", "trace", "doctor", "demo"}) {
    EXPECT_THAT(help, HasSubstr(name));
  }
  EXPECT_THAT(command<ShowCommand>({"vm", "start", "--help"}).text, HasSubstr("tandem vm start"));
}

TEST(CliArguments, TheDemoGetsItsWordsUntouched) {
  EXPECT_THAT(
      command<DemoCommand>({"demo", "--rounds", "2", "--", "--json", "f", "status"}).arguments,
      ElementsAre("--rounds", "2", "--", "--json", "f", "status"));
  EXPECT_THAT(command<DemoCommand>({"demo", "--help"}).arguments, ElementsAre("--help"));
  EXPECT_THAT(command<DemoCommand>({"--json", "--socket", "demo", "demo", "x"}).arguments,
              ElementsAre("x", "--json", "-"));
}

TEST(CliArguments, ErrorsOfTheSocketSayWhatToDo) {
  const auto missing = explain({Errc::unavailable, "x"}, "/nonexistent/api.sock");
  EXPECT_THAT(missing.message, HasSubstr("there is no socket /nonexistent/api.sock"));
  EXPECT_THAT(missing.message, HasSubstr("systemctl start tandemd"));
  EXPECT_THAT(missing.message, HasSubstr("TANDEM_SOCKET"));
  EXPECT_THAT(explain({Errc::unavailable, "x"}, "/etc/passwd").message,
              HasSubstr("is not a socket"));
  const auto denied = explain({Errc::permission, "x"}, "/nonexistent/api.sock");
  EXPECT_THAT(denied.message, HasSubstr("may not use the socket /nonexistent/api.sock"));
  EXPECT_EQ(explain({Errc::not_found, "there is no VM"}, "/nonexistent/s").message,
            "there is no VM");
}

}  // namespace
}  // namespace tandem::cli
