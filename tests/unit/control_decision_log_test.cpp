// The log of a pair's decisions: numbered without gaps, limited, and never without what is needed
// to decide again what it holds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "engine/control/json.hpp"
#include "engine/control/replay.hpp"
#include "tests/unit/control_fixture.hpp"

namespace tandem::control {
namespace {

using controller::Policy;
using nlohmann::json;

std::vector<std::uint64_t> numbers(const json& answer) {
  std::vector<std::uint64_t> numbers;
  for (const auto& record : answer["records"]) numbers.push_back(record["seq"]);
  return numbers;
}

TEST(DecisionLog, AnEmptyOneSaysWhereItWillBegin) {
  const LoggedPair pair(Policy::hybrid);
  const auto answer = pair.log().to_json(0, 500);
  EXPECT_EQ(answer["first"], 1);
  EXPECT_EQ(answer["next"], 0);
  EXPECT_TRUE(answer["records"].empty());
  EXPECT_EQ(answer["start"], to_json(pair.controller()));
  EXPECT_EQ(pair.log().last(), 0u);
}

TEST(DecisionLog, ARecordSaysWhatWasSeenAndDecided) {
  LoggedPair pair(Policy::hybrid);
  pair.run_cycle(0.02, 0.5, 77);
  const auto record = pair.log().to_json(0, 500)["records"].at(0);
  EXPECT_EQ(record["seq"], 1);
  EXPECT_EQ(record["epoch"], 1);
  EXPECT_NEAR(record["time"].get<double>(), 1.7e9 + 1e5 / 3 + 0.52, 1e-3);
  EXPECT_EQ(record["observation"]["bytes"], 77);
  EXPECT_EQ(record["observation"]["pause_s"], 0.02);
  EXPECT_EQ(record["decision"], to_json(pair.controller().last()));
  EXPECT_EQ(record["figures"], to_json(pair.controller().figures()));
  EXPECT_FALSE(record.contains("change"));
}

TEST(DecisionLog, AChangeIsARecordOfItsOwn) {
  LoggedPair pair(Policy::hybrid);
  pair.run_cycle();
  controller::Parameters parameters;
  parameters.window_s = 20;
  pair.change(Policy::threshold, parameters);
  const auto record = pair.log().to_json(1, 500)["records"].at(0);
  EXPECT_EQ(record["seq"], 2);
  EXPECT_EQ(record["change"]["policy"], "threshold");
  EXPECT_EQ(record["change"]["parameters"], to_json(parameters));
  EXPECT_FALSE(record.contains("observation"));
  EXPECT_EQ(pair.log().decisions(), 1u) << "a change is no decision";
}

TEST(DecisionLog, QuestionsGoOnWhereAnswersEnded) {
  LoggedPair pair(Policy::periodic);
  pair.live(7);
  auto answer = pair.log().to_json(0, 3);
  EXPECT_THAT(numbers(answer), testing::ElementsAre(1, 2, 3));
  EXPECT_EQ(answer["next"], 3);
  answer = pair.log().to_json(answer["next"], 3);
  EXPECT_THAT(numbers(answer), testing::ElementsAre(4, 5, 6));
  EXPECT_FALSE(answer.contains("start")) << "only who begins needs it";
  answer = pair.log().to_json(6, 3);
  EXPECT_THAT(numbers(answer), testing::ElementsAre(7));
  answer = pair.log().to_json(7, 3);
  EXPECT_TRUE(answer["records"].empty());
  EXPECT_EQ(answer["next"], 7);
}

TEST(DecisionLog, OfTooManyTheNewestAreKeptAndTheirNumbersStay) {
  LoggedPair pair(Policy::periodic, 10);
  pair.live(25);
  const auto answer = pair.log().to_json(0, 500);
  EXPECT_EQ(answer["first"], 16);
  EXPECT_THAT(numbers(answer), testing::ElementsAre(16, 17, 18, 19, 20, 21, 22, 23, 24, 25));
  EXPECT_EQ(pair.log().last(), 25u);
  EXPECT_EQ(pair.log().decisions(), 25u);
}

TEST(DecisionLog, WhatIsKeptIsEnoughToDecideItAgain) {
  for (const auto policy : controller::policies) {
    LoggedPair pair(policy, 20);
    pair.live(50);
    controller::Parameters parameters;
    parameters.hybrid_stay = 3;
    pair.change(Policy::hybrid, parameters);
    pair.live(15);
    pair.change(policy, parameters);
    for (int i = 0; i < 40; ++i) {
      // The changes go by, too: the controller before the oldest record takes part in them.
      std::istringstream in(pair.recording());
      const auto summary = Replay::run(in);
      ASSERT_TRUE(summary) << summary.error().message;
      EXPECT_EQ(summary->decisions + summary->changes, 20u);
      EXPECT_EQ(summary->differences, 0u) << to_string(policy) << " " << i;
      pair.live(1);
    }
  }
}

TEST(DecisionLog, CountsTheChangesOfMode) {
  LoggedPair pair(Policy::threshold);
  for (int i = 0; i < 5; ++i) pair.run_cycle(0.01, 0.1);
  EXPECT_EQ(pair.log().mode_changes(), 1u) << "colo mode was too frequent";
  EXPECT_EQ(pair.log().decisions(), 5u);
}

}  // namespace
}  // namespace tandem::control
