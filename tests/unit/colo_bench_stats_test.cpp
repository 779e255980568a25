// The numbers of the benchmark of COLO mode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experiments/bench/colo_bench_stats.hpp"

namespace tandem::bench {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using survival::Account;
using testing::HasSubstr;

const survival::Time start{1000s};

TEST(ColoBenchLatencies, AreNearestRanksOfTheRequestsInTheWindow) {
  std::vector<Account::Latency> all;
  // 100 requests in a second, answered after 1 ms to 100 ms, and some outside.
  for (int i = 0; i < 100; ++i)
    all.push_back({start + i * 10ms, std::chrono::milliseconds(100 - i)});
  all.push_back({start - 1ms, 9s});
  all.push_back({start + 1s, 9s});
  const auto summary = summarise(all, start, start + 1s);
  EXPECT_EQ(summary.replies, 100U);
  EXPECT_DOUBLE_EQ(summary.p50_ms, 50);
  EXPECT_DOUBLE_EQ(summary.p99_ms, 99);
  EXPECT_DOUBLE_EQ(summary.max_ms, 100);
  EXPECT_DOUBLE_EQ(summary.mean_ms, 50.5);
  EXPECT_DOUBLE_EQ(summary.replies_per_second, 100);
  EXPECT_EQ(summarise({}, start, start + 1s).replies, 0U);
}

TEST(ColoBenchGrowth, CountsFromWhereACounterWasAndFromZeroWhereItWasNot) {
  const auto before =
      json::parse(R"({"compare": {"mismatches": {"payload": 2}, "mismatch_checkpoints": 2}})");
  const auto after = json::parse(
      R"({"compare": {"mismatches": {"payload": 5, "timeout": 1}, "mismatch_checkpoints": 4}})");
  EXPECT_EQ(growth(before, after, "/compare/mismatch_checkpoints"), 2U);
  EXPECT_EQ(growth(json::object(), after, "/compare/mismatch_checkpoints"), 4U);
  EXPECT_EQ(growth(after, json::object(), "/compare/mismatch_checkpoints"), 0U);
  EXPECT_THAT(mismatch_growth(before, after),
              testing::ElementsAre(testing::Pair("payload", 3U), testing::Pair("timeout", 1U)));
}

ColoBench measured() {
  ColoBench bench;
  for (const auto* name : {"unprotected", "periodic", "colo"}) {
    Phase phase;
    phase.name = name;
    phase.replies = 10'000;
    phase.open = {9'000, 2, 2, 4, 8, 100};
    phase.closed = {1'000, 1, 1, 2, 3, 900};
    bench.phases.push_back(phase);
  }
  return bench;
}

TEST(ColoBench, IsHeldAgainstOneMismatchCheckpointInAThousandReplies) {
  auto bench = measured();
  EXPECT_TRUE(broken_promises(bench).empty());
  bench.phases[2].mismatch_checkpoints = 10;
  EXPECT_TRUE(broken_promises(bench).empty());
  bench.phases[2].mismatch_checkpoints = 11;
  EXPECT_THAT(broken_promises(bench), testing::ElementsAre(HasSubstr("11 mismatch checkpoints")));
}

TEST(ColoBench, IsHeldAgainstLostConnectionsAndAgainstHavingMeasuredNothing) {
  auto bench = measured();
  bench.connection_problems = {"reset"};
  EXPECT_THAT(broken_promises(bench), testing::ElementsAre(HasSubstr("reset")));
  bench = measured();
  bench.phases[1].closed.replies = 0;
  EXPECT_THAT(broken_promises(bench), testing::ElementsAre(HasSubstr("periodic")));
  bench = measured();
  bench.phases.pop_back();
  EXPECT_THAT(broken_promises(bench), testing::ElementsAre(HasSubstr("colo")));
}

TEST(ColoBench, TellsRatiosBetweenThePhases) {
  auto bench = measured();
  bench.phases[2].open.p50_ms = 3;
  const auto report = to_json(bench);
  EXPECT_EQ(report["ratios"]["colo_to_unprotected"]["open"]["p50"], 1.5);
  EXPECT_EQ(report["ratios"]["colo_to_periodic"]["closed"]["p99"], 1.0);
  EXPECT_THAT(to_text(bench), HasSubstr("colo"));
}

}  // namespace
}  // namespace tandem::bench
