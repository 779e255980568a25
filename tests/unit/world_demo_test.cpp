// The plan of a demonstration and its account: seeds, kinds, events, JSON.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "experiments/demo/failover_times.hpp"
#include "experiments/demo/kill_plan.hpp"
#include "experiments/demo/report.hpp"

namespace tandem::demo {
namespace {

using nlohmann::json;
using std::chrono::microseconds;

TEST(KillPlan, IsTheSameForTheSameSeed) {
  const auto first = plan_rounds(42, 8, std::nullopt);
  const auto second = plan_rounds(42, 8, std::nullopt);
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].kind, second[i].kind);
    EXPECT_EQ(first[i].delay, second[i].delay);
    EXPECT_EQ(first[i].hang, second[i].hang);
  }
}

TEST(KillPlan, OneRoundCanBePlayedAgainByItsSeedAndKind) {
  const auto rounds = plan_rounds(42, 8, std::nullopt);
  const auto again = plan_round(rounds[5].seed, rounds[5].kind);
  EXPECT_EQ(again.delay, rounds[5].delay);
  EXPECT_EQ(again.hang, rounds[5].hang);
}

// These numbers are the promise that a seed means the same everywhere and always.
TEST(KillPlan, DrawsWhatItHasAlwaysDrawn) {
  EXPECT_EQ(plan_round(1, KillKind::primary_host).delay,
            microseconds(2'000'000 + 10451216379200822465U % 3'000'000));
}

TEST(KillPlan, KillsInEveryTenthOfTheThreeSeconds) {
  std::map<long, int> tenths;
  for (const auto& plan : plan_rounds(7, 2000, KillKind::primary_qemu)) {
    EXPECT_GE(plan.delay, microseconds(2'000'000));
    EXPECT_LT(plan.delay, microseconds(5'000'000));
    ++tenths[(plan.delay.count() - 2'000'000) / 300'000];
  }
  ASSERT_EQ(tenths.size(), 10U);
  for (const auto& [tenth, count] : tenths) EXPECT_NEAR(count, 200, 60) << tenth;
}

TEST(KillPlan, AMixHasAllKindsInEqualShare) {
  std::map<KillKind, int> kinds;
  std::set<KillKind> first;
  for (std::uint64_t seed = 0; seed < 50; ++seed)
    first.insert(plan_rounds(seed, 1, std::nullopt)[0].kind);
  for (const auto& plan : plan_rounds(3, 40, std::nullopt)) ++kinds[plan.kind];
  EXPECT_THAT(kinds, testing::UnorderedElementsAre(testing::Pair(KillKind::primary_qemu, 10),
                                                   testing::Pair(KillKind::primary_host, 10),
                                                   testing::Pair(KillKind::secondary_host, 10),
                                                   testing::Pair(KillKind::primary_daemon, 10)));
  EXPECT_EQ(first.size(), 4U) << "the order does not depend on the seed";
}

TEST(KillPlan, ADaemonDiesInSomeRoundsAndHangsInOthers) {
  std::set<bool> hangs;
  for (const auto& plan : plan_rounds(1, 20, KillKind::primary_daemon)) hangs.insert(plan.hang);
  EXPECT_EQ(hangs.size(), 2U);
}

TEST(KillPlan, NamesOfKindsRoundTrip) {
  for (const auto kind : {KillKind::primary_qemu, KillKind::primary_host, KillKind::secondary_host,
                          KillKind::primary_daemon})
    EXPECT_EQ(kill_kind_from_string(to_string(kind)), kind);
  EXPECT_EQ(kill_kind_from_string("mix"), std::nullopt);
}

DaemonEvent event(const char* host, double time, const char* type) {
  return {host, time, "demo", type, ""};
}

TEST(FailoverTimes, SplitsATakeoverByTheSurvivorsEvents) {
  const std::vector events{
      event("beta", 90.0, "promoted"),  // of an earlier life
      event("alpha", 100.05, "vm-lost"),        event("beta", 100.4, "peer-lost"),
      event("beta", 100.41, "arbiter-granted"), event("beta", 100.46, "loaded"),
      event("beta", 100.5, "promoted")};
  const auto times = failover_times(events, "beta", 100.0, json());
  EXPECT_NEAR(*times.failover_ms, 500, 0.01);
  EXPECT_NEAR(*times.split.detection_ms, 400, 0.01);
  EXPECT_NEAR(*times.split.decision_ms, 10, 0.01);
  EXPECT_NEAR(*times.split.load_ms, 50, 0.01);
  EXPECT_NEAR(*times.split.running_ms, 40, 0.01);
}

TEST(FailoverTimes, APrimaryThatGoesOnAloneLoadsNothing) {
  const std::vector events{event("alpha", 100.4, "peer-lost"),
                           event("alpha", 100.41, "arbiter-granted"),
                           event("alpha", 100.413, "solo")};
  const auto times = failover_times(events, "alpha", 100.0, json());
  EXPECT_NEAR(*times.failover_ms, 413, 0.01);
  EXPECT_EQ(times.split.load_ms, std::nullopt);
  EXPECT_NEAR(*times.split.running_ms, 3, 0.01);
}

TEST(FailoverTimes, TakesTheDaemonsOwnNumberWhereAnEventIsMissing) {
  const json status{{"failover", {{"detection_ms", 3.5}, {"load_ms", 7}}}};
  const auto times = failover_times({event("beta", 100.5, "promoted")}, "beta", 100.0, status);
  EXPECT_NEAR(*times.failover_ms, 500, 0.01);
  EXPECT_EQ(times.split.detection_ms, 3.5);
  EXPECT_EQ(times.split.load_ms, 7);
  EXPECT_EQ(times.split.decision_ms, std::nullopt);
}

TEST(FailoverTimes, KnowsNothingWithoutEvents) {
  const auto times = failover_times({event("beta", 99.9, "promoted")}, "beta", 100.0, json());
  EXPECT_EQ(times.running_at, std::nullopt);
  EXPECT_EQ(times.failover_ms, std::nullopt);
}

TEST(FailoverTimes, LeavesOutWhatIsNoEvent) {
  const json answer{
      {"events", {1, {{"type", "solo"}}, {{"type", "solo"}, {"time", 5.5}, {"vm", "demo"}}}}};
  const auto events = events_from_json("alpha", answer);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].time, 5.5);
  EXPECT_TRUE(events_from_json("alpha", json::array()).empty());
  EXPECT_TRUE(events_from_json("alpha", json{{"events", 3}}).empty());
}

TEST(Median, OfNothingOddAndEven) {
  EXPECT_EQ(median({}), std::nullopt);
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
}

std::set<std::string> keys(const json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) names.insert(name);
  return names;
}

TEST(Report, HasExactlyThePromisedFields) {
  RoundResult round;
  round.seed = 18446744073709551615U;
  round.survivor = "beta";
  const auto report = to_json(QemuFacts{"7.2.22", "tcg", true}, {round});
  EXPECT_EQ(keys(report), (std::set<std::string>{"qemu", "rounds", "summary"}));
  EXPECT_EQ(report["qemu"], (json{{"version", "7.2.22"}, {"accel", "tcg"}, {"shim", true}}));
  const auto& first = report["rounds"][0];
  EXPECT_EQ(keys(first),
            (std::set<std::string>{"seed", "kill", "failover_ms", "client_outage_ms",
                                   "connection_survived", "acked_writes", "lost_acked_writes",
                                   "checkpoints", "pause_ms", "svm_stopped_ratio", "dirty_bytes",
                                   "wire_bytes", "split", "survivor"}));
  EXPECT_EQ(keys(first["pause_ms"]), (std::set<std::string>{"mean", "p50", "p99"}));
  EXPECT_EQ(keys(first["split"]), (std::set<std::string>{"detection_ms", "decision_ms", "load_ms",
                                                         "running_ms", "first_reply_ms"}));
  EXPECT_EQ(first["seed"], 18446744073709551615U);
  EXPECT_EQ(first["kill"], "primary-host");
  EXPECT_TRUE(first["failover_ms"].is_null());
}

TEST(Report, IsHeldAgainstThePromisedTimes) {
  RoundResult round;
  round.kind = KillKind::primary_host;
  round.client_outage_ms = 699;
  EXPECT_TRUE(broken_promises({round}).empty());
  round.client_outage_ms = 700;
  EXPECT_EQ(broken_promises({round}).size(), 1U);
  RoundResult quick = round;
  quick.client_outage_ms = 100;
  EXPECT_TRUE(broken_promises({round, quick, quick}).empty());
  // A VM that stays where it is must be back within a second, whatever the median.
  for (const auto kind : {KillKind::secondary_host, KillKind::primary_daemon}) {
    round.kind = kind;
    round.client_outage_ms = 1001;
    EXPECT_EQ(broken_promises({round, quick, quick}).size(), 1U);
  }
  round.client_outage_ms.reset();
  EXPECT_EQ(broken_promises({round, quick, quick}).size(), 1U);
}

TEST(Report, SumsUpAndTakesMediansPerKind) {
  RoundResult a;
  a.kind = KillKind::primary_host;
  a.client_outage_ms = 500;
  a.acked_writes = 100;
  a.checkpoints = 7;
  a.connection_survived = true;
  RoundResult b = a;
  b.client_outage_ms = 700;
  RoundResult c = a;
  c.kind = KillKind::secondary_host;
  c.client_outage_ms = 100;
  c.lost_acked_writes = 3;
  c.connection_survived = false;
  c.failures = {"lost"};
  const auto summary = to_json(QemuFacts{}, {a, b, c})["summary"];
  EXPECT_EQ(summary["client_outage_ms_median"], 500);
  EXPECT_EQ(summary["client_outage_ms_median_by_kill"],
            (json{{"primary-host", 600}, {"secondary-host", 100}}));
  EXPECT_EQ(summary["rounds"], 3);
  EXPECT_EQ(summary["rounds_failed"], 1);
  EXPECT_EQ(summary["connections_survived"], 2);
  EXPECT_EQ(summary["acked_writes"], 300);
  EXPECT_EQ(summary["lost_acked_writes"], 3);
  EXPECT_EQ(summary["checkpoints"], 21);
}

}  // namespace
}  // namespace tandem::demo
