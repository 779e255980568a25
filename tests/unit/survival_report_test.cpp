// The plan and the account of the survival experiment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "experiments/survival/report.hpp"

namespace tandem::survival {
namespace {

using namespace std::chrono_literals;
using demo::KillKind;
using nlohmann::json;
using testing::HasSubstr;

TEST(SurvivalPlan, IsTheSameForTheSameSeed) {
  const auto first = plan_round(42, std::nullopt, Policy::colo, true);
  const auto again = plan_round(42, std::nullopt, Policy::colo, true);
  ASSERT_EQ(first.blows.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(first.blows[i].kind, again.blows[i].kind);
    EXPECT_EQ(first.blows[i].gap, again.blows[i].gap);
  }
  ASSERT_EQ(first.handshakes.size(), again.handshakes.size());
  for (std::size_t i = 0; i < first.handshakes.size(); ++i)
    EXPECT_EQ(first.handshakes[i].offset, again.handshakes[i].offset);
}

TEST(SurvivalPlan, ARoundOfAMixIsPlayedAgainByItsKill) {
  const auto mixed = plan_round(7, std::nullopt, Policy::colo, false);
  const auto again = plan_round(7, mixed.blows[0].kind, Policy::colo, false);
  EXPECT_EQ(mixed.blows[0].gap, again.blows[0].gap);
  EXPECT_EQ(mixed.wraps[0].bytes_left, again.wraps[0].bytes_left);
}

TEST(SurvivalPlan, AMixKillsHostsAndQemusInTurn) {
  std::multiset<KillKind> kinds;
  for (std::uint64_t seed = 1; seed <= 20; ++seed)
    kinds.insert(plan_round(seed, std::nullopt, Policy::colo, false).blows[0].kind);
  EXPECT_EQ(kinds.count(KillKind::primary_host), 10U);
  EXPECT_EQ(kinds.count(KillKind::primary_qemu), 10U);
}

TEST(SurvivalPlan, HostsAndQemusDieWithStreamsAndWithout) {
  std::set<std::pair<KillKind, bool>> seen;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const auto plan = plan_round(seed, std::nullopt, Policy::colo, false);
    seen.emplace(plan.blows[0].kind, plan.streams);
  }
  EXPECT_EQ(seen.size(), 4U);
}

TEST(SurvivalPlan, HandshakesStraddleTheKillAndBothSidesOpenAndWrap) {
  bool before = false;
  bool after = false;
  std::set<bool> openers;
  std::set<bool> wrappers;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto plan = plan_round(seed, std::nullopt, Policy::periodic, false);
    for (const auto& handshake : plan.handshakes) {
      EXPECT_LE(std::chrono::abs(handshake.offset), 20ms);
      before = before || handshake.offset < 0us;
      after = after || handshake.offset > 0us;
      openers.insert(handshake.by_guest);
    }
    for (const auto& wrap : plan.wraps) {
      EXPECT_GE(wrap.bytes_left, 1U);
      wrappers.insert(wrap.by_guest);
    }
  }
  EXPECT_TRUE(before && after);
  EXPECT_EQ(openers.size(), 2U);
  EXPECT_EQ(wrappers.size(), 2U);
}

TEST(SurvivalPlan, NamesRoundTrip) {
  for (const auto kind : all_kinds()) EXPECT_EQ(kind_from_string(to_string(kind)), kind);
  EXPECT_EQ(kind_from_string("unknown"), std::nullopt);
  for (const auto path : {PathKind::plain, PathKind::offload_off, PathKind::delay})
    EXPECT_EQ(path_kind_from_string(to_string(path)), path);
}

const Time start{1000s};

Outcome answered_at(std::initializer_list<std::chrono::milliseconds> times) {
  Outcome outcome;
  outcome.opened = start;
  for (const auto time : times) outcome.account.answers.push_back(start + time);
  return outcome;
}

TEST(Outage, IsTheLongestSilenceThatTouchesTheTimeAfterAKill) {
  const auto outcome = answered_at({10ms, 500ms, 600ms, 900ms, 950ms});
  EXPECT_DOUBLE_EQ(outage_ms(outcome, start + 20ms, start + 1000ms), 490);
  EXPECT_DOUBLE_EQ(outage_ms(outcome, start + 550ms, start + 1000ms), 300);
  // The time up to the second kill is the first one's.
  EXPECT_DOUBLE_EQ(outage_ms(outcome, start + 550ms, start + 650ms), 100);
}

TEST(Outage, LastsUntilTheEndForAConnectionThatNeverHadAnAnswerAgain) {
  EXPECT_DOUBLE_EQ(outage_ms(answered_at({10ms}), start + 20ms, start + 5000ms), 4990);
  EXPECT_DOUBLE_EQ(outage_ms(answered_at({}), start + 20ms, start + 5000ms), 5000);
}

ConnectionResult connection(Kind kind, double outage) {
  ConnectionResult one;
  one.kind = kind;
  one.survived = true;
  one.outage_ms = {outage};
  one.after_last_checkpoint = true;
  one.wrapped = true;
  return one;
}

Setting colo(std::vector<Kind> kinds) {
  Setting setting;
  setting.policy = Policy::colo;
  setting.kinds = std::move(kinds);
  return setting;
}

TEST(SurvivalReport, SumsUpByKindAndNamesEveryConnectionThatDied) {
  RoundResult round;
  round.seed = 5;
  round.kills = {KillKind::primary_qemu};
  round.connections = {connection(Kind::before, 100), connection(Kind::before, 300),
                       connection(Kind::bulk_up, 50)};
  round.connections[1].survived = false;
  round.connections[1].name = "before";
  round.connections[1].problem = "reset";
  round.failures = {"before: reset"};
  const auto report = to_json(colo({Kind::before}), {round, round});
  const auto& before = report["kinds"]["before"];
  EXPECT_EQ(before["rounds"], 2);
  EXPECT_EQ(before["connections"], 4);
  EXPECT_EQ(before["survived"], 2);
  EXPECT_EQ(before["outage_ms"]["median"], 200);
  EXPECT_EQ(before["outage_ms"]["max"], 300);
  EXPECT_EQ(before["errors"], json({"seed 5, before: reset", "seed 5, before: reset"}));
  EXPECT_EQ(report["summary"]["rounds_failed"], 2);
  EXPECT_EQ(report["summary"]["connections"], 6);
  EXPECT_EQ(report["summary"]["survived"], 4);
  EXPECT_EQ(report["policy"], "colo");
  EXPECT_TRUE(report["rounds"][0]["kills"][0]["failover_ms"].is_null());
}

TEST(SurvivalReport, IsHeldAgainstTheTimeThatIsPromised) {
  const auto setting = colo({Kind::before});
  RoundResult round;
  round.connections = {connection(Kind::before, 699)};
  EXPECT_TRUE(broken_promises(setting, {round}).empty());
  round.connections = {connection(Kind::before, 700)};
  EXPECT_EQ(broken_promises(setting, {round}).size(), 1U);
  auto far = setting;
  far.path.kind = PathKind::delay;
  EXPECT_TRUE(broken_promises(far, {round}).empty());
}

TEST(SurvivalReport, IsHeldAgainstWhatTheRoundsWereToShow) {
  EXPECT_THAT(broken_promises(colo({Kind::guest}), {RoundResult{}}),
              testing::ElementsAre(HasSubstr("no connection of the kind guest")));

  RoundResult round;
  round.connections = {connection(Kind::first, 1)};
  round.connections[0].after_last_checkpoint = false;
  EXPECT_EQ(broken_promises(colo({Kind::first}), {round}).size(), 1U);

  round.connections = {connection(Kind::wrap, 1)};
  round.connections[0].wrapped = false;
  EXPECT_EQ(broken_promises(colo({Kind::wrap}), {round}).size(), 1U);

  round.connections = {connection(Kind::sack, 1)};
  auto setting = colo({Kind::sack});
  setting.path.kind = PathKind::delay;
  EXPECT_EQ(broken_promises(setting, {round}).size(), 1U);
  round.line.emplace();
  round.line->forth.with_sack = round.line->back.with_sack = 1;
  EXPECT_TRUE(broken_promises(setting, {round}).empty());

  round.connections = {connection(Kind::random, 1)};
  round.random_replies = 10;
  round.random_checkpoints = 9;
  EXPECT_EQ(broken_promises(colo({Kind::random}), {round}).size(), 1U);
  round.random_checkpoints = 10;
  EXPECT_TRUE(broken_promises(colo({Kind::random}), {round}).empty());
}

}  // namespace
}  // namespace tandem::survival
