// Replaying a recording: the same decisions, or which ones are not, or what else would have been
// decided.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "engine/control/replay.hpp"
#include "tests/unit/control_fixture.hpp"

namespace tandem::control {
namespace {

using controller::Mode;
using controller::Policy;
using nlohmann::json;
using testing::HasSubstr;

Result<Replay::Summary> replay(const std::string& recording,
                               const Replay::Otherwise& otherwise = {}) {
  std::istringstream in(recording);
  return Replay::run(in, otherwise);
}

/// The recording with each line changed that `change` wants to change.
template <class Change>
std::string edited(const std::string& recording, Change change) {
  std::istringstream in(recording);
  std::string text;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    auto record = json::parse(line);
    change(number++, record);
    if (!record.is_null()) text += record.dump() + "\n";
  }
  return text;
}

LoggedPair a_pair() {
  LoggedPair pair(Policy::hybrid);
  pair.live(40);
  controller::Parameters parameters;
  parameters.hybrid_stay = 3;
  parameters.hybrid_bound_max = 0.2;
  pair.change(Policy::hybrid, parameters);
  pair.live(40);
  pair.change(Policy::threshold, parameters);
  pair.live(40);
  return pair;
}

TEST(Replay, DecidesEveryDecisionAgainAndTheSame) {
  const auto pair = a_pair();
  const auto summary = replay(pair.recording());
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->vm, "web");
  EXPECT_EQ(summary->policy, Policy::threshold);
  EXPECT_EQ(summary->decisions, 120u);
  EXPECT_EQ(summary->changes, 2u);
  EXPECT_EQ(summary->differences, 0u);
  EXPECT_TRUE(summary->first_differences.empty());
  EXPECT_GT(summary->mode_changes, 2u) << "the pair was to be lively";
  EXPECT_GT(summary->recorded_colo_s, 0);
  EXPECT_LT(summary->recorded_colo_s, summary->total_s);
  EXPECT_DOUBLE_EQ(summary->recorded_colo_s, summary->replayed_colo_s);
}

TEST(Replay, ADecisionThatIsNotTheRecordedOneIsNamed) {
  const auto recording = edited(a_pair().recording(), [](int line, json& record) {
    if (line == 17) record["decision"]["due_s"] = 123.5;
    if (line == 18) record["decision"]["mode"] = "periodic";
    if (line == 18) record["decision"]["reason"] = "probe";
  });
  const auto summary = replay(recording);
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->differences, 2u);
  ASSERT_EQ(summary->first_differences.size(), 2u);
  EXPECT_EQ(summary->first_differences[0].seq, 17u);
  EXPECT_EQ(summary->first_differences[0].recorded.due_s, 123.5);
  EXPECT_NE(summary->first_differences[0].replayed.due_s, 123.5);
  EXPECT_EQ(summary->first_differences[1].recorded.mode, Mode::periodic);
}

TEST(Replay, AnotherObservationLeadsToOtherDecisions) {
  const auto recording = edited(a_pair().recording(), [](int line, json& record) {
    if (line == 3) record["observation"]["pause_s"] = 0.5;
  });
  const auto summary = replay(recording);
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_GT(summary->differences, 0u);
}

TEST(Replay, NoMoreDifferencesAreKeptThanAPersonReads) {
  const auto recording = edited(a_pair().recording(), [](int, json& record) {
    if (record.contains("decision")) record["decision"]["due_s"] = 5.25;
  });
  const auto summary = replay(recording);
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->differences, 120u);
  EXPECT_EQ(summary->first_differences.size(), Replay::differences_kept);
}

TEST(Replay, AnotherPolicyDecidesOtherwiseOfTheSame) {
  const auto recording = a_pair().recording();
  const auto summary = replay(recording, {Policy::periodic, json::object()});
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->policy, Policy::periodic) << "changes of policy do not change it back";
  EXPECT_EQ(summary->decisions, 120u);
  EXPECT_GT(summary->differences, 0u);
  EXPECT_EQ(summary->replayed_colo_s, 0) << "none of it was wanted";
  EXPECT_GT(summary->recorded_colo_s, 0);
}

TEST(Replay, OtherParametersHoldThroughChangesAtRunTime) {
  const auto pair = a_pair();
  const auto summary = replay(pair.recording(), {std::nullopt, {{"colo_checkpoint_max_ms", 3000}}});
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->policy, Policy::threshold) << "the recorded one";
  ASSERT_FALSE(summary->first_differences.empty());
  EXPECT_EQ(summary->first_differences[0].recorded.due_s, 10);
  EXPECT_EQ(summary->first_differences[0].replayed.due_s, 3);
  const auto wrong = replay(pair.recording(), {std::nullopt, {{"nonsense", 3000}}});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("nonsense is not a parameter"));
}

TEST(Replay, ARecordThatIsMissingIsAnErrorThatNamesIt) {
  const auto recording = edited(a_pair().recording(), [](int line, json& record) {
    if (line == 30) record = nullptr;
  });
  const auto summary = replay(recording);
  ASSERT_FALSE(summary);
  EXPECT_EQ(summary.error().code, Errc::invalid_input);
  EXPECT_EQ(summary.error().message, "line 31: record 30 is missing: the next one is 31");
}

TEST(Replay, WhatIsNoRecordingIsRefusedWithItsLine) {
  const auto right = a_pair().recording();
  const auto second_line = right.find('\n') + 1;
  const auto header = right.substr(0, second_line);
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "the recording is empty"},
      {"\n\n", "the recording is empty"},
      {"no JSON\n", "line 1 is not a JSON object"},
      {"[1]\n", "line 1 is not a JSON object"},
      {"{}\n", "not a recording of version 1"},
      {"{\"tandem_recording\": 2}\n", "not a recording of version 1"},
      {"{\"tandem_recording\": 1, \"vm\": \"web\"}\n", "line 1: "},
      {edited(header, [](int, json& start) { start["start"].erase("state"); }),
       "a recording is replayed by the version that made it"},
      {header + "{}\n", "line 2: "},
      {header + "{\"seq\": -1}\n", "line 2: seq is not a whole number"},
      {header + "{\"seq\": 1, \"change\": {\"policy\": \"x\"}}\n", "there is no policy"},
      {header + "{\"seq\": 1, \"observation\": 1}\n", "line 2: "},
      {right.substr(0, right.size() - 20), "line 123 is not a JSON object"},
  };
  for (const auto& [text, expected] : cases) {
    const auto summary = replay(text);
    ASSERT_FALSE(summary) << expected;
    EXPECT_EQ(summary.error().code, Errc::invalid_input);
    EXPECT_THAT(summary.error().message, HasSubstr(expected));
  }
}

TEST(Replay, ALineWithoutEndIsRefusedBeforeItFillsTheMemory) {
  std::istringstream in(std::string(Replay::line_max + 100, ' '));
  const auto summary = Replay::run(in);
  ASSERT_FALSE(summary);
  EXPECT_EQ(summary.error().code, Errc::limit);
  EXPECT_LE(in.tellg(), static_cast<std::streamoff>(Replay::line_max + 10));
}

TEST(Replay, ARecordingOfNothingButItsStartHasNoDifferences) {
  const LoggedPair pair(Policy::adaptive);
  const auto summary = replay(pair.recording());
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->decisions, 0u);
  EXPECT_EQ(summary->total_s, 0);
}

}  // namespace
}  // namespace tandem::control
