// The policy `hybrid`: the equations of docs/controller.md, step by step, with numbers worked out
// by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/controller_fixture.hpp"

namespace tandem::controller {
namespace {

using State = Hybrid::State;

constexpr Cycle periodic{Mode::periodic, 0.01, 0.25};
constexpr Cycle good{Mode::colo, 0.01, 1};   // ρ = 0.01
constexpr Cycle bad{Mode::colo, 0.05, 0.1};  // ρ = 0.5

/// Small numbers, and a bound that stands still at 0.1.
Parameters automaton() {
  Parameters parameters;
  parameters.hybrid_stay = 3;
  parameters.hybrid_measure = 2;
  parameters.hybrid_verdict = 1;
  parameters.hybrid_sigma_start = 1;
  parameters.hybrid_sigma_min = 1;
  parameters.hybrid_sigma_max = 8;
  parameters.hybrid_sigma_growth = 2;
  parameters.hybrid_sigma_decay = 1;
  parameters.hybrid_gain = 0;
  parameters.hybrid_bound_start = 0.1;
  return parameters;
}

/// The outer layer alone: nothing is ever bad enough to leave colo mode.
Parameters regulator(double bound_start = 0.1) {
  Parameters parameters;
  parameters.window_s = 10;
  parameters.hybrid_gain = 0.01;
  parameters.hybrid_integral_time_s = 3;
  parameters.hybrid_set_point = 1.5;
  parameters.hybrid_bound_start = bound_start;
  parameters.hybrid_bound_min = 0.02;
  parameters.hybrid_bound_max = 0.5;
  return parameters;
}

class HybridPolicy : public testing::Test {
 protected:
  void begin(const Parameters& parameters) { run = Driver(Policy::hybrid, parameters); }
  [[nodiscard]] const Hybrid& hybrid() const { return std::get<Hybrid>(run.controller.state()); }

  /// Periodic cycles until colo mode is tried again; how many there were.
  int stay() {
    for (int cycles = 1; cycles <= 10'000; ++cycles) {
      if (run.decide(periodic).mode == Mode::colo) return cycles;
    }
    ADD_FAILURE() << "the stay in periodic mode does not end";
    return 0;
  }

  Driver run{Policy::hybrid, automaton()};
};

TEST_F(HybridPolicy, BeginsInColoModeWithTheFirstSigmaAndBound) {
  EXPECT_EQ(run.controller.last(), (Decision{Mode::colo, 10, Reason::start}));
  EXPECT_EQ(hybrid().state, State::colo);
  EXPECT_EQ(hybrid().b, 0);
  EXPECT_EQ(hybrid().sigma, 1);
  EXPECT_EQ(hybrid().bound, 0.1);
}

TEST_F(HybridPolicy, APairsFirstEpochIsPeriodicAndCountsForNothing) {
  const auto decision = run.decide({Mode::periodic, 9, 0.1});
  EXPECT_EQ(decision, (Decision{Mode::colo, 10, Reason::start}));
  EXPECT_EQ(hybrid().state, State::colo);
  EXPECT_EQ(hybrid().b, 0);
  EXPECT_EQ(hybrid().window.size(), 0u);
}

TEST_F(HybridPolicy, StaysInColoModeAsLongAsTheRatioIsWithinTheBound) {
  // 0.1 is not above 0.1.
  EXPECT_EQ(run.decide({Mode::colo, 0.125, 1.25}), (Decision{Mode::colo, 10, Reason::stay}));
  EXPECT_EQ(run.controller.state_name(), "colo");
}

TEST_F(HybridPolicy, LeavesColoModeWhenTheRatioIsAboveTheBound) {
  EXPECT_EQ(run.decide(bad), (Decision{Mode::periodic, 0.25, Reason::over_bound}));
  EXPECT_EQ(hybrid().state, State::periodic);
  EXPECT_EQ(run.controller.state_name(), "periodic");
  EXPECT_DOUBLE_EQ(hybrid().b, 3 + 1 + 0.1);
}

TEST_F(HybridPolicy, AStayCountsDownToATrial) {
  run.decide(bad);
  for (const double b : {3.1, 2.1, 1.1, 0.1}) {
    EXPECT_EQ(run.decide(periodic), (Decision{Mode::periodic, 0.25, Reason::stay}));
    EXPECT_NEAR(hybrid().b, b, 1e-12);
  }
  EXPECT_EQ(run.decide(periodic), (Decision{Mode::colo, 10, Reason::stay_over}));
  EXPECT_EQ(hybrid().state, State::measuring);
  EXPECT_EQ(run.controller.state_name(), "measuring");
  EXPECT_EQ(hybrid().b, 0);
}

TEST_F(HybridPolicy, ATrialEndsInColoModeAfterItsCheckpoints) {
  run.decide(bad);
  stay();
  run.decide(good);
  EXPECT_EQ(hybrid().state, State::measuring);
  EXPECT_EQ(hybrid().b, 1);
  run.decide(good);
  EXPECT_EQ(hybrid().state, State::colo);
  EXPECT_EQ(hybrid().b, 2);
  EXPECT_EQ(hybrid().sigma, 1);
}

TEST_F(HybridPolicy, ATrialEndsInColoModeAfterOneWindowAtTheLatest) {
  auto parameters = automaton();
  parameters.hybrid_measure = 25;
  parameters.window_s = 10;
  begin(parameters);
  run.decide(bad);
  stay();
  run.decide({Mode::colo, 0.25, 4.75});
  EXPECT_EQ(hybrid().state, State::measuring);
  run.decide({Mode::colo, 0.25, 4.75});
  EXPECT_EQ(hybrid().state, State::colo);
}

TEST_F(HybridPolicy, ATrialThatFailsDoublesSigma) {
  run.decide(bad);
  stay();
  EXPECT_EQ(run.decide(bad), (Decision{Mode::periodic, 0.25, Reason::over_bound}));
  EXPECT_EQ(hybrid().sigma, 2);
  EXPECT_DOUBLE_EQ(hybrid().b, 3 + 2 + 0.1);
}

TEST_F(HybridPolicy, StaysGrowWhileColoModeKeepsFailingUpToTheGreatestSigma) {
  std::vector<int> stays;
  for (int i = 0; i < 6; ++i) {
    run.decide(bad);
    stays.push_back(stay());
  }
  // b begins with 4.1, 5.1, 7.1, 11.1 and 11.1 again, and a stay ends when it is not above 0.
  EXPECT_THAT(stays, testing::ElementsAre(5, 6, 8, 12, 12, 12));
}

TEST_F(HybridPolicy, WithTheDefaultsStaysAreAsTheDocumentSays) {
  begin(Parameters());
  std::vector<int> stays;
  for (int i = 0; i < 14; ++i) {
    run.decide({Mode::colo, 0.05, 0.05});
    stays.push_back(stay());
  }
  EXPECT_THAT(stays,
              testing::ElementsAre(27, 28, 29, 32, 36, 45, 60, 87, 136, 224, 383, 538, 538, 538));
}

TEST_F(HybridPolicy, LeavingColoModeAfterTheTrialDoesNotRaiseSigma) {
  run.decide(bad);
  stay();
  run.decide(bad);
  stay();
  run.decide(good, 2);
  ASSERT_EQ(hybrid().state, State::colo);
  ASSERT_EQ(hybrid().sigma, 2);
  // ρ of the stay: (0.01 + 0.01 + 1) / (1 + 1 + 0.1) = 0.486.
  run.decide({Mode::colo, 1, 0.1});
  EXPECT_EQ(hybrid().state, State::periodic);
  EXPECT_EQ(hybrid().sigma, 1);
}

TEST_F(HybridPolicy, SigmaFallsByDWithEachCheckpointInGoodColoModeDownToItsLeast) {
  for (int i = 0; i < 4; ++i) {
    run.decide(bad);
    stay();
  }
  ASSERT_EQ(hybrid().sigma, 8);
  run.decide(good, 2);
  ASSERT_EQ(hybrid().state, State::colo);
  ASSERT_EQ(hybrid().sigma, 8) << "a trial is not good colo mode yet";
  for (const double sigma : {7, 6, 5, 4, 3, 2, 1, 1, 1}) {
    run.decide(good);
    EXPECT_EQ(hybrid().sigma, sigma);
  }
}

TEST_F(HybridPolicy, AVerdictWaitsForItsNumberOfCheckpoints) {
  auto parameters = automaton();
  parameters.hybrid_measure = 5;
  parameters.hybrid_verdict = 3;
  begin(parameters);
  run.decide(bad);
  stay();
  EXPECT_EQ(run.decide(bad).mode, Mode::colo);
  EXPECT_EQ(run.decide(bad).mode, Mode::colo);
  EXPECT_EQ(run.decide(bad).mode, Mode::periodic);
}

TEST_F(HybridPolicy, PeriodicCyclesAndEarlierStaysDoNotExcuseColoMode) {
  auto parameters = automaton();
  parameters.window_s = 600;
  begin(parameters);
  run.decide(good, 100);
  run.decide({Mode::colo, 20, 1});
  ASSERT_EQ(hybrid().state, State::periodic);
  for (int i = 0; i < 5; ++i) run.decide({Mode::periodic, 0, 20});
  ASSERT_EQ(hybrid().state, State::measuring);
  EXPECT_EQ(run.decide({Mode::colo, 0.015, 0.1}).mode, Mode::periodic);
  EXPECT_LT(run.figure("downtime_ratio"), 0.11) << "over all cycles";
  EXPECT_DOUBLE_EQ(run.figure("colo_downtime_ratio"), 0.15);
}

TEST_F(HybridPolicy, TheBoundMovesAsTheVelocityFormSays) {
  begin(regulator());
  // cps = 1/2; nothing before it, so Δcps = 0: 0.1 + 0.01 · 2/3 · (1.5 − 0.5).
  run.decide({Mode::colo, 0.1, 1.9});
  EXPECT_NEAR(hybrid().bound, 0.1 + 0.02 / 3, 1e-12);
  // cps = 2/2.5, Δcps = 0.3: −0.01 · 0.3 + 0.01 · 0.5/3 · (1.5 − 0.8).
  run.decide({Mode::colo, 0.1, 0.4});
  EXPECT_NEAR(hybrid().bound, 0.1 + 0.02 / 3 - 0.003 + 0.0035 / 3, 1e-12);
}

TEST_F(HybridPolicy, TheBoundIsComparedAfterItHasMoved) {
  begin(regulator());
  // ρ = 0.105 is above the bound before this step, which moves it to 0.107.
  EXPECT_EQ(run.decide({Mode::colo, 0.19, 1.81}).mode, Mode::colo);
}

TEST_F(HybridPolicy, TheBoundSaturatesAboveAndDoesNotWindUp) {
  begin(regulator());
  // cps = 0.1: each step adds 0.01 · 10/3 · 1.4 = 0.0467.
  run.decide({Mode::colo, 0.125, 9.875}, 8);
  EXPECT_NEAR(hybrid().bound, 0.1 + 8 * 0.14 / 3, 1e-12);
  run.decide({Mode::colo, 0.125, 9.875}, 100);
  EXPECT_EQ(hybrid().bound, 0.5);
  // Two cycles in 10.2 s: it falls at once, by 0.01 · (2/10.2 − 0.1) − 0.01 · 0.2/3 · (1.5 −
  // 2/10.2).
  run.decide({Mode::colo, 0.01, 0.19});
  EXPECT_NEAR(hybrid().bound, 0.5 - 0.0000915, 1e-7);
}

TEST_F(HybridPolicy, TheBoundSaturatesBelowAndDoesNotWindUp) {
  begin(regulator(0.029));
  // cps = 10: each step takes 0.01 · 0.1/3 · 8.5 = 0.00283.
  run.decide({Mode::colo, 0, 0.1}, 3);
  EXPECT_NEAR(hybrid().bound, 0.029 - 0.0085, 1e-12);
  run.decide({Mode::colo, 0, 0.1}, 100);
  EXPECT_EQ(hybrid().bound, 0.02);
  // Alone in its window: cps = 0.05. It rises at once, by 0.01 · 9.95 + 0.01 · 20/3 · 1.45.
  run.decide({Mode::colo, 0, 20});
  EXPECT_NEAR(hybrid().bound, 0.02 + 0.0995 + 0.29 / 3, 1e-9);
}

TEST_F(HybridPolicy, TheBoundStandsStillInPeriodicMode) {
  auto parameters = regulator();
  parameters.hybrid_stay = 50;
  begin(parameters);
  run.decide(bad);
  const auto bound = hybrid().bound;
  run.decide(periodic, 40);
  ASSERT_EQ(hybrid().state, State::periodic);
  EXPECT_EQ(hybrid().bound, bound);
}

TEST_F(HybridPolicy, TheFirstStepOfAStayInColoModeKnowsNoChangeOfTheRate) {
  begin(regulator());
  run.decide(bad);
  stay();
  const auto bound = hybrid().bound;
  run.decide({Mode::colo, 0, 0.5});  // cps = 2
  EXPECT_NEAR(hybrid().bound, bound + 0.01 * 0.5 / 3 * (1.5 - 2), 1e-12);
}

TEST_F(HybridPolicy, StartsOutsideOfTheLimitsBeginAtTheNearestLimit) {
  auto parameters = automaton();
  parameters.hybrid_bound_start = 0.9;
  parameters.hybrid_sigma_start = 100;
  begin(parameters);
  EXPECT_EQ(hybrid().bound, 0.5);
  EXPECT_EQ(hybrid().sigma, 8);
}

TEST_F(HybridPolicy, ChangedParametersHoldFromTheNextCycleOn) {
  run.decide(bad);
  auto parameters = automaton();
  parameters.hybrid_stay = 0;
  parameters.hybrid_sigma_max = 1;
  parameters.hybrid_bound_max = 0.05;
  run.controller.change(Policy::hybrid, parameters);
  EXPECT_EQ(hybrid().state, State::periodic) << "the policy goes on from its state";
  EXPECT_EQ(hybrid().bound, 0.05);
  EXPECT_EQ(hybrid().sigma, 1);
  EXPECT_DOUBLE_EQ(hybrid().b, 1.05) << "no longer than a stay that begins now";
  EXPECT_EQ(stay(), 2);
}

TEST_F(HybridPolicy, ItsFiguresAreTheNumbersOfTheEquations) {
  run.decide(bad);
  EXPECT_DOUBLE_EQ(run.figure("colo_downtime_ratio"), 0.5);
  EXPECT_EQ(run.figure("downtime_ratio_bound"), 0.1);
  EXPECT_DOUBLE_EQ(run.figure("b"), 4.1);
  EXPECT_EQ(run.figure("sigma"), 1);
}

}  // namespace
}  // namespace tandem::controller
