// The model of a pair that policies are compared on, and what the comparison has to show.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "experiments/simulation/acceptance.hpp"
#include "experiments/simulation/report.hpp"
#include "experiments/simulation/timeline.hpp"
#include "experiments/world/process.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::simulation {
namespace {

using namespace std::chrono_literals;
using controller::Controller;
using controller::Mode;
using controller::Policy;
using testing::Contains;
using testing::Each;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

/// 40 MB a second, copied at 1000 MB/s, sent at 500 MB/s, loaded in 50 ms.
Workload plain(double mismatches_per_s = 0) {
  return {{.shape = Shape::steady,
           .dirty_mb_s = 40,
           .working_set_mb = 1e9,
           .mismatches_per_s = mismatches_per_s},
          {.copy_fixed_s = 0.005, .copy_mb_s = 1000, .link_mb_s = 500, .load_s = 0.050}};
}

std::vector<Checkpoint> checkpoints(const Workload& workload, Policy policy, double seconds = 60,
                                    std::uint64_t seed = 1) {
  std::vector<Checkpoint> all;
  run(workload, seed, seconds, Controller(policy, {}),
      [&](const Checkpoint& checkpoint, const Controller&) { all.push_back(checkpoint); });
  return all;
}

constexpr double close = 1e-6;

TEST(PairModel, APeriodicPauseIsTheCopy) {
  // 10 MB in 250 ms.
  EXPECT_THAT(checkpoints(plain(), Policy::periodic),
              Each(Field(&Checkpoint::pause_s, testing::DoubleNear(0.005 + 0.010, close))));
}

TEST(PairModel, APeriodicCheckpointIsThereWhenItIsCopiedSentAndLoaded) {
  EXPECT_THAT(
      checkpoints(plain(), Policy::periodic),
      Each(Field(&Checkpoint::whole_s, testing::DoubleNear(0.005 + 0.010 + 0.020 + 0.050, close))));
}

TEST(PairModel, ACheckpointForColoModeStopsTheVmUntilItIsLoaded) {
  const auto all = checkpoints(plain(), Policy::colo);
  // 400 MB in 10 s.
  EXPECT_THAT(all, Each(Field(&Checkpoint::uptime_s, testing::DoubleNear(10, close))));
  EXPECT_THAT(all, Each(Field(&Checkpoint::pause_s, testing::DoubleNear(0.8 + 0.05, close))));
}

TEST(PairModel, WhereTheEngineAnswersEarlyColoModeOnlyCopies) {
  auto workload = plain();
  workload.costs.colo_waits = false;
  EXPECT_THAT(checkpoints(workload, Policy::colo),
              Each(Field(&Checkpoint::pause_s, testing::DoubleNear(0.005 + 0.4, close))));
}

TEST(PairModel, TheVmWaitsForASecondaryThatIsTooSlow) {
  auto workload = plain();
  workload.costs.load_s = 1;
  const auto all = checkpoints(workload, Policy::periodic);
  // One second for each, however short the copy is.
  EXPECT_NEAR(all.back().pause_s + all.back().uptime_s, 1, close);
}

TEST(PairModel, AWorkingSetLimitsACheckpoint) {
  auto workload = plain();
  workload.character.working_set_mb = 30;
  EXPECT_NEAR(checkpoints(workload, Policy::colo).back().mb, 30, 0.01);
}

TEST(PairModel, WorkByTheClockIsDoneAfterThePause) {
  auto workload = plain();
  workload.character.by_the_clock = true;
  const auto all = checkpoints(workload, Policy::periodic);
  const auto& last = all.back();
  EXPECT_NEAR(last.mb, 40 * (last.uptime_s + last.pause_s), 1e-3);
}

TEST(PairModel, MismatchesComeAtTheirRate) {
  const auto all = checkpoints(plain(5), Policy::colo, 2000);
  double uptime_s = 0;
  for (const auto& checkpoint : all) uptime_s += checkpoint.uptime_s;
  EXPECT_NEAR(static_cast<double>(all.size()) / uptime_s, 5, 0.2);
}

TEST(PairModel, OutputsAreTheSameForAWhileAfterACheckpoint) {
  auto workload = plain(1000);
  workload.character.alike_min_s = 0.2;
  workload.character.alike_max_s = 0.3;
  EXPECT_THAT(
      checkpoints(workload, Policy::colo),
      Each(Field(&Checkpoint::uptime_s, testing::AllOf(testing::Ge(0.2), testing::Le(0.32)))));
}

TEST(PairModel, NothingDiffersInPeriodicMode) {
  EXPECT_THAT(checkpoints(plain(1000), Policy::periodic),
              Each(Field(&Checkpoint::mismatch, false)));
}

TEST(PairModel, WhatVmsThatHaveRunApartHaveUnderWayIsSentAnew) {
  auto workload = plain(1000);
  workload.costs.diverged_mb_per_request = 100;
  EXPECT_GT(checkpoints(workload, Policy::colo).back().mb, 100);
  EXPECT_LT(checkpoints(workload, Policy::periodic).back().mb, 100);
}

TEST(PairModel, OutputWaitsForItsCheckpointInPeriodicModeOnly) {
  const auto waits = [](Policy policy) {
    return run(plain(), 1, 600, Controller(policy, {})).output_wait_ms();
  };
  // Half a period, and the checkpoint.
  EXPECT_NEAR(waits(Policy::periodic), 125 + 85, 0.1);
  EXPECT_EQ(waits(Policy::colo), 0);
}

TEST(PairModel, TheSameSeedGivesTheSameRun) {
  const auto one = checkpoints(bugzilla_draft(), Policy::adaptive, 300, 7);
  const auto again = checkpoints(bugzilla_draft(), Policy::adaptive, 300, 7);
  ASSERT_EQ(one.size(), again.size());
  for (std::size_t i = 0; i < one.size(); ++i) {
    ASSERT_EQ(one[i].time_s, again[i].time_s);
    ASSERT_EQ(one[i].mb, again[i].mb);
  }
  EXPECT_NE(one[0].mb, checkpoints(bugzilla_draft(), Policy::adaptive, 300, 8)[0].mb);
}

TEST(Workloads, RubisGoesFromFiveToFiftyRequestsEveryFiveMinutes) {
  const auto all = conditions(rubis_draft().character, 1, 1800);
  for (const std::size_t second : {0, 299, 600, 1499}) EXPECT_EQ(all[second].requests, 5);
  for (const std::size_t second : {300, 599, 900, 1799}) EXPECT_EQ(all[second].requests, 50);
}

TEST(Workloads, BugzillaHasUpToSixteenCreationsASecond) {
  double least = 100, most = 0;
  for (const auto& now : conditions(bugzilla_draft().character, 1, 1800)) {
    least = std::min(least, now.requests);
    most = std::max(most, now.requests);
  }
  EXPECT_EQ(least, 0);
  EXPECT_EQ(most, 16);
}

TEST(Workloads, WanderingRatesStayAsTheyAreForTheirCorrelationTime) {
  const auto correlation = [](double after_s) {
    const auto all = conditions({.mismatches_per_s = 1, .wander = 1, .wander_time_s = 10}, 3, 1e5);
    double sum = 0, squares = 0;
    const auto offset = static_cast<std::size_t>(after_s);
    for (std::size_t i = 0; i + offset < all.size(); ++i) {
      sum += std::log(all[i].mismatches_per_s) * std::log(all[i + offset].mismatches_per_s);
      squares += std::pow(std::log(all[i].mismatches_per_s), 2);
    }
    return sum / squares;
  };
  EXPECT_NEAR(correlation(10), std::exp(-1), 0.05);
  EXPECT_NEAR(correlation(50), 0, 0.05);
}

TEST(Calibration, ABalancedWorkloadCostsTheSameInBothModes) {
  auto draft = plain();
  draft.character.working_set_mb = 30;
  const auto workload = balanced(draft);
  EXPECT_NEAR(run_static(workload, Policy::colo).downtime,
              run_static(workload, Policy::periodic).downtime, 1e-4);
}

TEST(BackInColo, IsTheBeginningOfColoModeThatLasts) {
  // Phases of known replies begin at 80 s and at 160 s.
  const std::vector<ModeChange> changes{{0, Mode::periodic},   {84, Mode::colo},  // a failed trial
                                        {85, Mode::periodic},  {92, Mode::colo},
                                        {125, Mode::periodic}, {163, Mode::colo}};
  EXPECT_DOUBLE_EQ(back_in_colo_s(changes, 200), 12);
}

TEST(BackInColo, IsTheWholePhaseIfItNeverCame) {
  EXPECT_DOUBLE_EQ(back_in_colo_s(std::vector<ModeChange>{{0, Mode::periodic}}, 200), 40);
}

ScenarioResult made_up(double periodic, double colo, double hybrid, double adaptive) {
  ScenarioResult result{{"made-up", "", {}, {}, true}, {}};
  const std::pair<Policy, double> all[] = {{Policy::periodic, periodic},
                                           {Policy::colo, colo},
                                           {Policy::hybrid, hybrid},
                                           {Policy::adaptive, adaptive}};
  for (const auto& [policy, downtime] : all) {
    const std::vector<Totals> runs(calibration_seeds, Totals{.time_s = calibration_s});
    result.policies.push_back({policy, runs, {.downtime = downtime}, {}});
  }
  return result;
}

std::vector<std::string> missed(const ScenarioResult& result) {
  std::vector<std::string> statements;
  for (const auto& check : checks({&result, 1})) {
    if (!check.holds) statements.push_back(check.statement);
  }
  return statements;
}

TEST(SimulationChecks, FindAnAdaptiveThatIsWorseThanAFixedMode) {
  EXPECT_THAT(missed(made_up(0.10, 0.20, 0.20, 0.1019)), IsEmpty());
  EXPECT_THAT(missed(made_up(0.10, 0.20, 0.20, 0.1021)),
              Contains(HasSubstr("not worse than the better fixed mode")));
}

TEST(SimulationChecks, FindAnAdaptiveThatIsHardlyBetterThanHybrid) {
  EXPECT_THAT(missed(made_up(0.10, 0.20, 0.10, 0.089)), IsEmpty());
  EXPECT_THAT(missed(made_up(0.10, 0.20, 0.10, 0.091)), Contains(HasSubstr("better than hybrid")));
}

TEST(SimulationChecks, FindColumnsAndOrdersThatAreNotThePapers) {
  auto result = made_up(0.40, 0.50, 0.30, 0.2);
  result.scenario.paper = paper_bugzilla;
  result.policies.push_back({Policy::threshold, {}, {.downtime = 0.39}, {}});
  const auto statements = missed(result);
  EXPECT_THAT(statements, Contains(HasSubstr("periodic is as in the table")));
  EXPECT_THAT(statements, Contains(HasSubstr("hybrid's downtime is predicted")));
  EXPECT_THAT(statements, Not(Contains(HasSubstr("threshold's downtime is predicted"))));
  EXPECT_THAT(statements, Contains(HasSubstr("order")));
}

TEST(SimulationChecks, FindALateReturnToColoMode) {
  auto result = made_up(0.10, 0.20, 0.20, 0.10);
  result.policies.back().back_s = 15.1;
  EXPECT_THAT(missed(result), Contains(HasSubstr("back in COLO mode")));
}

TEST(SimulationReport, SaysWhatWasMissed) {
  const auto result = made_up(0.10, 0.20, 0.20, 0.15);
  Setting setting;
  EXPECT_THAT(markdown({&result, 1}, setting), HasSubstr("**MISSED**"));
  EXPECT_FALSE(to_json({&result, 1}, setting)["checks"][0]["holds"]);
}

TEST(SimulationTimeline, HasAMomentForEachSecond) {
  Setting setting;
  setting.minutes = 2;
  const auto moments = timeline({"plain", "", plain(), {}, true}, Policy::colo, setting, 1);
  ASSERT_THAT(moments, SizeIs(120));
  EXPECT_EQ(moments.back().time_s, 119);
  EXPECT_THAT(moments, Each(Field(&Moment::colo, true)));
  // A checkpoint of 400 MB every 10.85 s.
  EXPECT_NEAR(moments.back().mb_per_s, 40, 1);
}

TEST(SimulationTimeline, IsDrawnByGnuplot) {
  if (!world::find_program("gnuplot")) GTEST_SKIP() << "gnuplot is not installed (gnuplot-nox)";
  Setting setting;
  setting.minutes = 1;
  const test::TemporaryFolder folder;
  const auto moments = timeline({"plain", "", plain(), {}, true}, Policy::hybrid, setting, 1);
  std::ofstream(folder.path() / "a.csv") << timeline_csv(moments);
  std::ofstream(folder.path() / "a.gnuplot") << gnuplot_script("plain", "a.csv", "a.svg", true);
  world::SpawnOptions gnuplot;
  gnuplot.argv = {"env", "-C", folder.path().string(), "gnuplot", "a.gnuplot"};
  const auto drawn = world::run(gnuplot, 30s);
  ASSERT_TRUE(drawn) << drawn.error().message;
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "a.svg"));
}

// All that is asked of the model and of the policies, with the seeds and the time of the report.
TEST(Simulation, ShowsAllThatIsAskedOfIt) {
  const Setting setting;
  std::vector<ScenarioResult> results;
  for (auto& scenario : scenarios(scenario_names(), [](const std::string&) {})) {
    results.push_back({std::move(scenario), {}});
    for (const auto policy : setting.policies) {
      results.back().policies.push_back(study(results.back().scenario, policy, setting));
    }
  }
  for (const auto& check : checks(results)) {
    EXPECT_TRUE(check.holds) << check.statement << ": " << check.evidence;
  }
}

}  // namespace
}  // namespace tandem::simulation
