// What all policies share, and the policies `periodic`, `colo` and `threshold`.
#include <gtest/gtest.h>

#include "tests/unit/controller_fixture.hpp"

namespace tandem::controller {
namespace {

constexpr Cycle periodic{Mode::periodic, 0.01, 0.25};
constexpr Cycle often{Mode::colo, 0.05, 0.3};
constexpr Cycle seldom{Mode::colo, 0.05, 1};

/// The paper's numbers.
Parameters paper() {
  Parameters parameters;
  parameters.threshold_interval_ms = 400;
  parameters.threshold_average = 5;
  parameters.threshold_stay = 100;
  return parameters;
}

TEST(ControllerPolicy, EveryNameIsReadBack) {
  for (const auto policy : policies) EXPECT_EQ(policy_from_string(to_string(policy)), policy);
  EXPECT_EQ(policy_from_string("Periodic"), std::nullopt);
  EXPECT_EQ(policy_from_string(""), std::nullopt);
}

TEST(FixedPolicy, PeriodicAsksForACheckpointAfterEachPeriod) {
  Driver run(Policy::periodic);
  const Decision expected{Mode::periodic, 0.25, Reason::fixed};
  EXPECT_EQ(run.controller.last(), expected);
  EXPECT_EQ(run.decide(periodic), expected);
  EXPECT_EQ(run.decide({Mode::periodic, 5, 0.01}), expected);
}

TEST(FixedPolicy, ColoAsksForACheckpointAfterTenSecondsAtTheLatest) {
  Driver run(Policy::colo);
  const Decision expected{Mode::colo, 10, Reason::fixed};
  EXPECT_EQ(run.controller.last(), expected);
  EXPECT_EQ(run.decide(periodic), expected) << "a pair's first epoch";
  EXPECT_EQ(run.decide({Mode::colo, 5, 0.01}), expected);
}

TEST(ControllerPolicy, APeriodLongerThanColoModesIsKept) {
  Parameters parameters;
  parameters.period_ms = 60'000;
  EXPECT_EQ(Driver(Policy::periodic, parameters).decide(periodic).due_s, 60);
}

TEST(ControllerPolicy, NoPeriodIsShorterThanTheGreatestRateAllows) {
  Parameters parameters;
  parameters.period_ms = 10;
  parameters.checkpoint_rate_max = 8;
  EXPECT_EQ(Driver(Policy::periodic, parameters).controller.last().due_s, 0.125);
  EXPECT_EQ(Driver(Policy::periodic, parameters).decide(periodic).due_s, 0.125);
}

TEST(ControllerPolicy, FiguresSpeakOfTheWindowOverAllModes) {
  Driver run(Policy::colo);
  run.decide({Mode::periodic, 0.25, 0.75});
  run.decide({Mode::colo, 0.25, 2.75});
  EXPECT_DOUBLE_EQ(run.figure("downtime_ratio"), 0.5 / 3.5);
  EXPECT_DOUBLE_EQ(run.figure("checkpoints_per_second"), 0.5);
}

TEST(ControllerPolicy, WhatIsNoTimeCountsAsNone) {
  Driver run(Policy::colo);
  run.decide({Mode::colo, std::numeric_limits<double>::quiet_NaN(), -5});
  run.decide({Mode::colo, -1, std::numeric_limits<double>::infinity()});
  EXPECT_EQ(run.figure("downtime_ratio"), 0);
  EXPECT_EQ(run.figure("checkpoints_per_second"), 0);
}

TEST(ThresholdPolicy, BeginsInColoMode) {
  EXPECT_EQ(Driver(Policy::threshold).controller.last(), (Decision{Mode::colo, 10, Reason::start}));
}

TEST(ThresholdPolicy, APairsFirstEpochIsPeriodicAndCountsForNothing) {
  Driver run(Policy::threshold, paper());
  EXPECT_EQ(run.decide(periodic), (Decision{Mode::colo, 10, Reason::start}));
  EXPECT_EQ(run.figure("stay_left"), 0);
}

TEST(ThresholdPolicy, LeavesColoModeWhenTheVmRunsForLessThan400MsOnAverage) {
  Driver run(Policy::threshold, paper());
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(run.decide(often), (Decision{Mode::colo, 10, Reason::stay})) << "no average yet";
  }
  EXPECT_EQ(run.decide(often), (Decision{Mode::periodic, 0.25, Reason::frequent}));
}

TEST(ThresholdPolicy, StaysInColoModeAtJust400Ms) {
  Driver run(Policy::threshold, paper());
  EXPECT_EQ(run.decide({Mode::colo, 0.05, 0.4}, 50).mode, Mode::colo);
}

TEST(ThresholdPolicy, PausesAreNoTimeBetweenCheckpoints) {
  Driver run(Policy::threshold, paper());
  EXPECT_EQ(run.decide({Mode::colo, 5, 0.3}, 5).mode, Mode::periodic);
}

TEST(ThresholdPolicy, TheAverageIsOverTheLatestFive) {
  Driver run(Policy::threshold, paper());
  run.decide(seldom, 100);
  // Of 1 s and 0.1 s: 0.82, 0.64, 0.46, 0.28.
  EXPECT_EQ(run.decide({Mode::colo, 0.01, 0.1}, 3).mode, Mode::colo);
  EXPECT_NEAR(run.figure("average_interval_ms"), 460, 1e-9);
  EXPECT_EQ(run.decide({Mode::colo, 0.01, 0.1}).mode, Mode::periodic);
  EXPECT_NEAR(run.figure("average_interval_ms"), 280, 1e-9);
}

TEST(ThresholdPolicy, AStayLasts100PeriodicCheckpoints) {
  Driver run(Policy::threshold, paper());
  run.decide(often, 5);
  EXPECT_EQ(run.figure("stay_left"), 100);
  for (int i = 0; i < 99; ++i) {
    ASSERT_EQ(run.decide(periodic), (Decision{Mode::periodic, 0.25, Reason::stay})) << i;
  }
  EXPECT_EQ(run.decide(periodic), (Decision{Mode::colo, 10, Reason::stay_over}));
}

TEST(ThresholdPolicy, AfterAStayTheAverageBeginsAnew) {
  Driver run(Policy::threshold, paper());
  run.decide(often, 5);
  run.decide(periodic, 100);
  EXPECT_EQ(run.decide(often, 4).mode, Mode::colo);
  EXPECT_EQ(run.decide(often).mode, Mode::periodic);
}

TEST(ThresholdPolicy, AnEpochInTheWrongModeIsNoPartOfAStay) {
  Driver run(Policy::threshold, paper());
  run.decide(often, 5);
  EXPECT_EQ(run.decide(seldom), (Decision{Mode::periodic, 0.25, Reason::stay}));
  EXPECT_EQ(run.figure("stay_left"), 100);
}

TEST(ControllerChange, AnotherPolicyBeginsAnewAndTheWindowStays) {
  Driver run(Policy::periodic);
  run.decide({Mode::periodic, 0.25, 0.75});
  run.controller.change(Policy::hybrid, Parameters());
  EXPECT_EQ(run.controller.policy(), Policy::hybrid);
  EXPECT_EQ(run.controller.last(), (Decision{Mode::colo, 10, Reason::start}));
  EXPECT_DOUBLE_EQ(run.figure("downtime_ratio"), 0.25 / 0.75);
  run.controller.change(Policy::periodic, Parameters());
  EXPECT_EQ(run.controller.last(), (Decision{Mode::periodic, 0.25, Reason::fixed}));
}

TEST(ControllerChange, TheSamePolicyGoesOnFromItsState) {
  Driver run(Policy::threshold, paper());
  run.decide(often, 5);
  run.decide(periodic, 10);
  auto parameters = paper();
  parameters.period_ms = 500;
  run.controller.change(Policy::threshold, parameters);
  EXPECT_EQ(run.controller.last(), (Decision{Mode::periodic, 0.5, Reason::stay}));
  EXPECT_EQ(run.figure("stay_left"), 90);
}

TEST(ControllerChange, AStayIsNoLongerThanOneThatBeginsNow) {
  Driver run(Policy::threshold, paper());
  run.decide(often, 5);
  auto parameters = paper();
  parameters.threshold_stay = 2;
  run.controller.change(Policy::threshold, parameters);
  EXPECT_EQ(run.decide(periodic).mode, Mode::periodic);
  EXPECT_EQ(run.decide(periodic).mode, Mode::colo);
}

TEST(ControllerState, ARestoredControllerDecidesAsTheOriginal) {
  Driver run(Policy::threshold, paper());
  run.decide(often, 4);
  Driver other(Policy::threshold, paper());
  other.controller.restore(run.controller.state(), run.controller.window(), run.controller.last());
  EXPECT_EQ(other.controller.last(), run.controller.last());
  EXPECT_EQ(other.decide(often).mode, Mode::periodic);
}

}  // namespace
}  // namespace tandem::controller
