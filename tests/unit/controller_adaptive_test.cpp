// The policy `adaptive`, promise by promise.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/unit/adaptive_fixture.hpp"

namespace tandem::controller {
namespace {

using testing::Each;
using testing::Ge;
using testing::Le;
using testing::SizeIs;

BehaviourAt always(const Behaviour& behaviour) {
  return [=](double) { return behaviour; };
}

/// Outputs differ all the time, in every other stretch of so many seconds; the first is good.
BehaviourAt alternating(double stretch_s) {
  return [=](double time_s) {
    const bool bad = std::fmod(time_s, 2 * stretch_s) >= stretch_s;
    return Behaviour{.colo_uptime_s = bad ? 0.01 : never};
  };
}

constexpr Behaviour differing{.colo_uptime_s = 0.01};

TEST(Adaptive, BeginsInPeriodicModeToHaveSomethingToCompareWith) {
  const auto story = live(5, always({}));
  ASSERT_THAT(story.changes, SizeIs(1));
  EXPECT_THAT(story.periods_s, SizeIs(4));
  EXPECT_EQ(story.changes[0].to.mode, Mode::colo);
  EXPECT_EQ(story.changes[0].to.reason, Reason::probe);
}

TEST(Adaptive, StaysInColoModeWhileOutputsNeverDiffer) {
  const auto story = live(3600, always({}));
  EXPECT_GT(story.colo_s, 0.99 * story.time_s);
}

TEST(Adaptive, EndsATrialWithTheFirstBadCycle) {
  const auto story = live(600, always(differing));
  // Each trial is one cycle: 10 ms, and the pause that it began with.
  EXPECT_GT(story.trials(), 10U);
  EXPECT_LE(story.colo_s, 0.02 * static_cast<double>(story.trials() + 1));
}

TEST(Adaptive, TriesMoreAndMoreSeldomWhileTrialsFail) {
  const auto story = live(3600, always(differing));
  std::vector<double> trials_s;
  for (const auto& change : story.changes) {
    if (change.to.reason == Reason::probe) trials_s.push_back(change.time_s);
  }
  const auto within = [&](double from_s, double to_s) {
    return std::ranges::count_if(trials_s,
                                 [&](double time_s) { return time_s >= from_s && time_s < to_s; });
  };
  EXPECT_GT(within(0, 600), within(600, 1200));
  EXPECT_GE(within(600, 1200), within(3000, 3600));
  EXPECT_GT(within(3000, 3600), 0);
}

TEST(Adaptive, FailedTrialsCostTheirShareOfTheDowntimeAndNoMore) {
  const auto bad = differing;
  const auto story = live(3600, always(bad));
  Controller periodic(Policy::periodic, {});
  const auto fixed = live(periodic, 3600, always(bad));
  EXPECT_LE(story.downtime(), 1.015 * fixed.downtime());
}

TEST(Adaptive, FailsNoTrialWithoutAShareForIt) {
  Parameters parameters;
  parameters.adaptive_trial_share = 0;
  const auto story = live(3600, always(differing), parameters);
  // What the first one costs is not known beforehand.
  EXPECT_EQ(story.trials(), 1U);
}

TEST(Adaptive, IsBackInColoModeWithinFifteenSecondsWheneverAServiceChangesEveryFortySeconds) {
  constexpr double stretch_s = 40;
  const auto story = live(20 * stretch_s, alternating(stretch_s));
  for (double begin_s = 2 * stretch_s; begin_s < 20 * stretch_s; begin_s += 2 * stretch_s) {
    double back_s = never;
    for (const auto& change : story.changes) {
      if (change.to.mode == Mode::colo && change.time_s >= begin_s) {
        back_s = change.time_s - begin_s;
        break;
      }
    }
    EXPECT_LE(back_s, 15) << "after " << begin_s << " s";
  }
}

TEST(Adaptive, GainsFromAServiceThatChanges) {
  const auto story = live(1600, alternating(40));
  Controller periodic(Policy::periodic, {}), colo(Policy::colo, {});
  EXPECT_LE(story.downtime(), 0.7 * live(periodic, 1600, alternating(40)).downtime());
  EXPECT_LE(story.downtime(), 0.7 * live(colo, 1600, alternating(40)).downtime());
}

TEST(Adaptive, ForgivesAGoodStayADifference) {
  // Known periodic mode, a good stay, and then a difference every half an hour.
  const auto story = live(7200, [](double time_s) {
    const bool first = time_s < 1;
    const bool now = std::fmod(time_s, 1800) < 0.02 && time_s > 100;
    return Behaviour{.colo_uptime_s = first || now ? 0.01 : never};
  });
  EXPECT_GT(story.colo_s, 0.98 * story.time_s);
}

TEST(Adaptive, LeavesColoModeThatCostsMoreThoughOutputsNeverDiffer) {
  const auto story = live(600, [](double time_s) {
    return Behaviour{.colo_pause_s = 2, .colo_uptime_s = time_s < 1 ? 0.01 : never};
  });
  EXPECT_LT(story.colo_s, 0.3 * story.time_s);
}

TEST(Adaptive, NoticesInColoModeThatPeriodicModeHasBecomeCheap) {
  // COLO mode costs 2 % throughout; periodic mode cost 5 %, and costs nearly nothing after 100 s.
  const auto story = live(1800, [](double time_s) {
    Behaviour behaviour{.fixed_pause_s = 0, .colo_pause_s = 0.02, .colo_uptime_s = 1};
    behaviour.mb_per_s = time_s < 100 ? 250 : 5;
    return behaviour;
  });
  ASSERT_FALSE(story.changes.empty());
  EXPECT_EQ(story.changes.back().to.mode, Mode::periodic);
  EXPECT_LT(story.colo_s, 0.5 * story.time_s);
}

TEST(Adaptive, MakesPeriodsLongerWhereTheFixedPauseIsWorthIt) {
  Parameters parameters;
  parameters.adaptive_latency_budget_ms = 10'000;
  const auto story = live(
      300,
      [&](double time_s) {
        // What is written has to vary, or no line could be laid through it.
        return Behaviour{.fixed_pause_s = 2 * parameters.adaptive_fixed_share,
                         .mb_per_s = std::fmod(time_s, 10) < 5 ? 20.0 : 30.0,
                         .colo_uptime_s = 0.01};
      },
      parameters);
  ASSERT_FALSE(story.periods_s.empty());
  EXPECT_NEAR(story.periods_s.back(), 2, 0.1);
}

TEST(Adaptive, MakesNoPeriodShorterThanThePeriodOrLongerThanTheBudget) {
  Parameters parameters;
  parameters.period_ms = 300;
  parameters.adaptive_latency_budget_ms = 800;
  const auto story = live(
      600,
      [](double time_s) {
        return Behaviour{.fixed_pause_s = time_s < 300 ? 0.5 : 0.0001,
                         .mb_per_s = std::fmod(time_s, 10) < 5 ? 20.0 : 30.0,
                         .colo_uptime_s = 0.01};
      },
      parameters);
  EXPECT_THAT(story.periods_s, Each(Ge(0.3)));
  EXPECT_THAT(story.periods_s, Each(Le(0.8)));
}

TEST(Adaptive, KeepsToThePeriodWhereNothingIsKnownOfTheFixedPause) {
  const auto story = live(1, always(differing));
  EXPECT_EQ(story.periods_s.at(0), 0.25);
}

TEST(Adaptive, AnEpochThatWasNotRunInTheModeThatWasWantedSaysNothing) {
  Controller controller(Policy::adaptive, {});
  live(controller, 60, always({}));
  ASSERT_EQ(controller.last().mode, Mode::colo);
  const auto decision =
      controller.decide({.time_s = 61, .mode = Mode::periodic, .pause_s = 0.1, .uptime_s = 0.25});
  EXPECT_EQ(decision.mode, Mode::colo);
}

TEST(Adaptive, SaysWhatStateItIsIn) {
  Controller controller(Policy::adaptive, {});
  EXPECT_EQ(controller.state_name(), "periodic");
  while (controller.last().mode == Mode::periodic) {
    controller.decide({.mode = Mode::periodic, .pause_s = 0.01, .uptime_s = 0.25});
  }
  EXPECT_EQ(controller.state_name(), "measuring");
  controller.decide({.mode = Mode::colo, .pause_s = 0.01, .uptime_s = 10});
  EXPECT_EQ(controller.state_name(), "colo");
  for (int i = 0; i < 10; ++i) {
    controller.decide({.mode = Mode::colo, .pause_s = 1, .uptime_s = 0.01, .mismatches = 1});
  }
  EXPECT_EQ(controller.state_name(), "periodic");
}

}  // namespace
}  // namespace tandem::controller
