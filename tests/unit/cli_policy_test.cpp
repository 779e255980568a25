// `tandem policy`, `tandem mode` and the policy that `tandem protect` asks for: what is sent, and
// what is shown.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/parameters.hpp"
#include "engine/cli/commands.hpp"
#include "engine/cli/format.hpp"
#include "engine/cli/output.hpp"
#include "engine/cli/policy_command.hpp"
#include "engine/control/json.hpp"
#include "tests/unit/control_fixture.hpp"
#include "tests/unit/fake_daemon.hpp"

namespace tandem::cli {
namespace {

using controller::Policy;
using nlohmann::json;
using testing::HasSubstr;

json a_vm() {
  control::LoggedPair pair(Policy::hybrid);
  pair.live(60);
  const auto& controller = pair.controller();
  return {{"name", "web"},
          {"role", "primary"},
          {"peer", "beta"},
          {"policy", "hybrid"},
          {"mode", to_string(controller.last().mode)},
          {"controller",
           {{"state", controller.state_name()},
            {"mode", to_string(controller.last().mode)},
            {"due_ms", controller.last().due_s * 1e3},
            {"reason", to_string(controller.last().reason)},
            {"decisions", pair.log().decisions()},
            {"mode_changes", pair.log().mode_changes()},
            {"figures", control::to_json(controller.figures())},
            {"parameters", control::to_json(controller.parameters())}}}};
}

/// Answers with a VM, and notes what it was asked.
class PolicyDaemon {
 public:
  struct Ran {
    int status;
    std::string out, err;
  };

  template <class Command>
  Ran run(Command command, bool as_json = false) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int status = command(Connection{daemon_.socket(), as_json});
    auto out = testing::internal::GetCapturedStdout();
    return {status, std::move(out), testing::internal::GetCapturedStderr()};
  }

  json vm = a_vm();
  std::string asked;
  json sent;

 private:
  test::FakeDaemon daemon_{[this](const api::Request& request) {
    asked = request.method + " " + request.path;
    sent = request.body;
    return test::answered(vm);
  }};
};

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

TEST(CliPolicy, SettingsAreNamesAndNumbers) {
  PolicyChange change;
  EXPECT_TRUE(change.empty());
  EXPECT_EQ(to_json(change), json::object()) << "what is not asked for is not sent";
  ASSERT_TRUE(add_setting(change, "window_s=20"));
  ASSERT_TRUE(add_setting(change, "hybrid_gain=2.5e-3"));
  EXPECT_FALSE(change.empty());
  EXPECT_EQ(to_json(change), json({{"parameters", {{"window_s", 20.0}, {"hybrid_gain", 0.0025}}}}));
  change.policy = "hybrid";
  EXPECT_EQ(to_json(change)["policy"], "hybrid");
}

TEST(CliPolicy, AWrongSettingIsNamed) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"window_s", "\"window_s\" is not NAME=VALUE"},
      {"windows=20", "windows is not a parameter of the controller (tandem policy VM shows"},
      {"=20", " is not a parameter"},
      {"window_s=", "window_s is \"\"; expected a number"},
      {"window_s=20s", "window_s is \"20s\"; expected a number"},
      {"window_s=1e999", "expected a number"},
      {"window_s=nan", "expected 1 to 600"},
      {"window_s=601", "window_s is 601; expected 1 to 600"},
      {"period_ms=250.5", "expected a whole number"},
      {"hybrid_gain=1", "hybrid_gain is set twice"},
  };
  for (const auto& [setting, expected] : cases) {
    PolicyChange change{"", {{"hybrid_gain", 0.5}}};
    const auto taken = add_setting(change, setting);
    ASSERT_FALSE(taken) << setting;
    EXPECT_EQ(taken.error().code, Errc::invalid_input);
    EXPECT_THAT(taken.error().message, HasSubstr(expected));
    EXPECT_EQ(change.parameters, (std::map<std::string, double>{{"hybrid_gain", 0.5}}));
  }
}

TEST(CliPolicy, ShowsStateFiguresAndEveryParameterWithItsUnit) {
  PolicyDaemon daemon;
  const auto ran =
      daemon.run([](const auto& connection) { return show_policy(connection, "web"); });
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_EQ(daemon.asked, "GET /v1/vms/web");
  EXPECT_EQ(ran.out, joined(policy_lines(daemon.vm)));
  EXPECT_THAT(ran.out, testing::ContainsRegex("^VM +web\npolicy +hybrid\nstate +[a-z]+\nmode +"));
  for (const auto& [name, value] : daemon.vm["controller"]["figures"].items()) {
    EXPECT_THAT(ran.out, HasSubstr("\n" + name + " "));
  }
  for (const auto& info : controller::parameter_table()) {
    EXPECT_THAT(ran.out, HasSubstr("\n" + std::string(info.name) + " "));
    EXPECT_THAT(ran.out, HasSubstr(std::string(info.meaning) + "\n"));
  }
  EXPECT_THAT(ran.out,
              testing::ContainsRegex("\nhybrid_gain +0.01 +s +0 to 100 +hybrid: the gain"));
  EXPECT_THAT(ran.out, testing::ContainsRegex("\nperiod_ms +250 +ms +10 to 60000, whole +how"));
}

TEST(CliPolicy, InJsonItIsTheDaemonsAnswer) {
  PolicyDaemon daemon;
  const auto ran =
      daemon.run([](const auto& connection) { return show_policy(connection, "web"); }, true);
  EXPECT_EQ(json::parse(ran.out), daemon.vm);
}

TEST(CliPolicy, WhoHasNoControllerSaysWhereItIs) {
  PolicyDaemon daemon;
  daemon.vm["controller"] = nullptr;
  const auto show = [](const auto& connection) { return show_policy(connection, "web"); };
  daemon.vm["role"] = "secondary";
  auto ran = daemon.run(show);
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_EQ(ran.err, "tandem: web has no controller here: ask on beta, where it runs\n");
  daemon.vm["role"] = "none";
  ran = daemon.run(show, true);
  EXPECT_THAT(ran.err, HasSubstr("it is not protected (tandem protect web --to PEER)"));
  EXPECT_EQ(json::parse(ran.out)["error"]["code"], "conflict");
}

TEST(CliPolicy, AChangeSendsWhatWasAskedForAndNoMore) {
  PolicyDaemon daemon;
  auto ran = daemon.run([](const auto& connection) {
    return change_policy(connection, "web", {"hybrid", {{"window_s", 20}}});
  });
  EXPECT_EQ(daemon.asked, "POST /v1/vms/web/policy");
  EXPECT_EQ(daemon.sent, json({{"policy", "hybrid"}, {"parameters", {{"window_s", 20.0}}}}));
  EXPECT_EQ(ran.out, "web runs by policy hybrid, with window_s=20\n");
  ran = daemon.run([](const auto& connection) {
    return change_policy(connection, "web", {"", {{"window_s", 20}, {"hybrid_gain", 0.5}}});
  });
  EXPECT_EQ(daemon.sent, json({{"parameters", {{"window_s", 20.0}, {"hybrid_gain", 0.5}}}}));
  EXPECT_EQ(ran.out, "web runs by policy hybrid, with hybrid_gain=0.5, window_s=20\n");
}

TEST(CliPolicy, AModeIsThePolicyOfThatName) {
  PolicyDaemon daemon;
  const auto ran =
      daemon.run([](const auto& connection) { return set_mode(connection, "web", "colo"); });
  EXPECT_EQ(daemon.asked, "POST /v1/vms/web/policy");
  EXPECT_EQ(daemon.sent, json({{"policy", "colo"}}));
  EXPECT_EQ(ran.out, "web runs in colo mode\n");
}

TEST(CliPolicy, ProtectLeavesThePolicyToTheDaemonUnlessAskedForOne) {
  PolicyDaemon daemon;
  auto ran =
      daemon.run([](const auto& connection) { return protect_vm(connection, "web", "beta", {}); });
  EXPECT_EQ(daemon.asked, "POST /v1/vms/web/protect");
  EXPECT_EQ(daemon.sent, json({{"peer", "beta"}}));
  EXPECT_EQ(ran.out, "web is protected by beta\n");
  daemon.run([](const auto& connection) {
    return protect_vm(connection, "web", "beta", {"adaptive", {{"window_s", 20}}});
  });
  EXPECT_EQ(daemon.sent,
            json({{"peer", "beta"}, {"policy", "adaptive"}, {"parameters", {{"window_s", 20.0}}}}));
}

TEST(CliPolicy, WhateverAnAnswerHoldsItIsShown) {
  const auto right = a_vm();
  const auto flat = right.flatten();
  for (const auto& [path, value] : flat.items()) {
    for (const json& other :
         {json(), json("\x1b"), json(1e308), json::array({1}), json::object()}) {
      auto vm = right;
      vm[json::json_pointer(path)] = other;
      for (const auto& line : policy_lines(vm)) EXPECT_EQ(line, printable(line));
    }
  }
  EXPECT_FALSE(policy_lines(json()).empty());
}

}  // namespace
}  // namespace tandem::cli
