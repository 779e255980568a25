// The arbiter's rules: who may run a VM alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/arbiter/decision.hpp"

namespace tandem::arbiter {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Record protected_pair(std::uint64_t generation = 4) {
  return {"demo", generation, "alpha", "beta", ""};
}

TEST(ArbiterEstablish, TheFirstPairHasGenerationOne) {
  const auto record = establish(std::nullopt, "demo", "alpha", "beta");
  ASSERT_TRUE(record);
  EXPECT_EQ(*record, (Record{"demo", 1, "alpha", "beta", ""}));
}

TEST(ArbiterEstablish, TheSurvivorMayProtectItsVmAgainWithANewGeneration) {
  auto old = protected_pair();
  old.solo = "beta";
  const auto record = establish(old, "demo", "beta", "alpha");
  ASSERT_TRUE(record);
  EXPECT_EQ(*record, (Record{"demo", 5, "beta", "alpha", ""}));
}

TEST(ArbiterEstablish, AHostThatDoesNotRunTheVmMayNot) {
  auto old = protected_pair();
  old.solo = "beta";
  const auto record = establish(old, "demo", "alpha", "beta");
  ASSERT_FALSE(record);
  EXPECT_EQ(record.error().code, Errc::conflict);
  EXPECT_THAT(record.error().message, AllOf(HasSubstr("runs on beta"), HasSubstr("alpha")));
}

TEST(ArbiterEstablish, AProtectedPairIsNotTakenByAnotherPrimary) {
  const auto record = establish(protected_pair(), "demo", "gamma", "beta");
  ASSERT_FALSE(record);
  EXPECT_EQ(record.error().code, Errc::conflict);
  EXPECT_THAT(record.error().message, HasSubstr("from alpha to beta"));
}

TEST(ArbiterEstablish, ThePrimaryMayBeginAgainAfterAnAttemptThatFailed) {
  const auto record = establish(protected_pair(), "demo", "alpha", "gamma");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->generation, 5u);
  EXPECT_EQ(record->secondary, "gamma");
}

TEST(ArbiterClaim, TheFirstMemberToAskGetsTheNextGeneration) {
  for (const std::string host : {"alpha", "beta"}) {
    const auto claimed = claim(protected_pair(), 4, host);
    EXPECT_TRUE(claimed.verdict.granted);
    EXPECT_EQ(claimed.verdict.generation, 5u);
    ASSERT_TRUE(claimed.replacement);
    EXPECT_EQ(*claimed.replacement, (Record{"demo", 5, "alpha", "beta", host}));
  }
}

TEST(ArbiterClaim, TheOtherMemberIsDeniedAndToldWhoHoldsTheVm) {
  const auto first = claim(protected_pair(), 4, "beta");
  const auto second = claim(first.replacement, 4, "alpha");
  EXPECT_FALSE(second.verdict.granted);
  EXPECT_EQ(second.verdict.generation, 5u);
  EXPECT_EQ(second.verdict.holder, "beta");
  EXPECT_FALSE(second.replacement) << "a denial changes nothing";
}

TEST(ArbiterClaim, AskingAgainGivesTheSameAnswerAndChangesNothing) {
  const auto first = claim(protected_pair(), 4, "beta");
  for (int i = 0; i < 3; ++i) {
    const auto again = claim(first.replacement, 4, "beta");
    EXPECT_TRUE(again.verdict.granted);
    EXPECT_EQ(again.verdict.generation, 5u);
    EXPECT_FALSE(again.replacement);
  }
}

TEST(ArbiterClaim, AStaleGenerationIsDenied) {
  EXPECT_FALSE(claim(protected_pair(4), 3, "alpha").verdict.granted);
  EXPECT_FALSE(claim(protected_pair(4), 5, "alpha").verdict.granted);
  auto later = protected_pair(6);
  later.solo = "beta";
  EXPECT_FALSE(claim(later, 4, "beta").verdict.granted)
      << "the same host, but of a generation long gone";
}

TEST(ArbiterClaim, AStrangerIsDenied) {
  const auto claimed = claim(protected_pair(), 4, "gamma");
  EXPECT_FALSE(claimed.verdict.granted);
  EXPECT_FALSE(claimed.replacement);
  EXPECT_FALSE(claim(protected_pair(), 4, "").verdict.granted);
}

TEST(ArbiterClaim, AnUnknownPairIsDenied) {
  const auto claimed = claim(std::nullopt, 0, "alpha");
  EXPECT_FALSE(claimed.verdict.granted);
  EXPECT_FALSE(claimed.replacement);
}

TEST(ArbiterClaim, AtMostOneGrantInAnyOrderOfQuestionsAndRepetitions) {
  // All sequences of six questions by two members and a stranger.
  const std::vector<std::string> hosts{"alpha", "beta", "gamma"};
  for (int code = 0; code < 729; ++code) {
    std::optional<Record> record = protected_pair();
    std::string granted_to;
    for (int i = 0, rest = code; i < 6; ++i, rest /= 3) {
      const auto& host = hosts[static_cast<std::size_t>(rest % 3)];
      const auto claimed = claim(record, 4, host);
      if (claimed.replacement) record = claimed.replacement;
      if (!claimed.verdict.granted) continue;
      ASSERT_TRUE(granted_to.empty() || granted_to == host) << code;
      granted_to = host;
    }
    ASSERT_NE(granted_to, "gamma");
  }
}

TEST(ArbiterStart, AVmThatNobodyRunsMayBeStartedAndChangesNothing) {
  EXPECT_TRUE(claim_start(std::nullopt, "alpha").verdict.granted);
  auto record = protected_pair();
  record.solo = "alpha";
  EXPECT_TRUE(claim_start(record, "alpha").verdict.granted) << "its own VM, started again";
  EXPECT_FALSE(claim_start(record, "alpha").replacement);
  const auto retired = retire(record, "alpha");
  ASSERT_TRUE(retired);
  EXPECT_TRUE(claim_start(*retired, "gamma").verdict.granted);
}

TEST(ArbiterStart, AFailoverThatWasMissedIsNotUndone) {
  auto record = protected_pair();
  record.solo = "beta";
  const auto claimed = claim_start(record, "alpha");
  EXPECT_FALSE(claimed.verdict.granted);
  EXPECT_EQ(claimed.verdict.holder, "beta");
}

TEST(ArbiterStart, StartingEndsAPairSoThatItsOtherMemberCannotTakeOver) {
  const auto claimed = claim_start(protected_pair(), "alpha");
  EXPECT_TRUE(claimed.verdict.granted);
  ASSERT_TRUE(claimed.replacement);
  EXPECT_FALSE(claim(claimed.replacement, 4, "beta").verdict.granted);
  EXPECT_FALSE(claim_start(protected_pair(), "gamma").verdict.granted);
}

TEST(ArbiterRetire, OnlyTheHolderMayRetire) {
  auto record = protected_pair();
  EXPECT_EQ(retire(record, "alpha").error().code, Errc::conflict) << "it is protected, not alone";
  record.solo = "beta";
  EXPECT_EQ(retire(record, "alpha").error().code, Errc::conflict);
  const auto retired = retire(record, "beta");
  ASSERT_TRUE(retired);
  EXPECT_EQ(retired->generation, record.generation) << "a generation only grows";
  EXPECT_TRUE(retired->solo.empty());
}

TEST(ArbiterRetire, AfterItAnyHostMayEstablishAndNobodyMayClaim) {
  auto record = protected_pair();
  record.solo = "beta";
  const auto retired = retire(record, "beta");
  ASSERT_TRUE(retired);
  EXPECT_FALSE(claim(*retired, 4, "beta").verdict.granted);
  EXPECT_FALSE(claim(*retired, retired->generation, "alpha").verdict.granted);
  EXPECT_FALSE(claim(*retired, retired->generation, "").verdict.granted)
      << "no host has an empty name, not even where the members are empty";
  const auto next = establish(*retired, "demo", "gamma", "alpha");
  ASSERT_TRUE(next);
  EXPECT_EQ(next->generation, 5u);
}

TEST(ArbiterRecord, RoundTripsThroughJson) {
  auto record = protected_pair(std::uint64_t{1} << 63);
  record.solo = "beta";
  EXPECT_EQ(*record_from_json(to_json(record)), record);
}

TEST(ArbiterRecord, EveryTruncationAndForeignTextIsRefused) {
  const auto text = to_json(protected_pair());
  for (std::size_t length = 0; length < text.size(); ++length) {
    const auto record = record_from_json(std::string_view(text).substr(0, length));
    ASSERT_FALSE(record) << length;
    EXPECT_EQ(record.error().code, Errc::invalid_input);
  }
  for (const std::string_view foreign :
       {"null", "[]", "{}", "42", "\"demo\"", "\xff\xfe",
        R"({"pair":"demo","generation":-1,"primary":"a","secondary":"b","solo":""})",
        R"({"pair":"demo","generation":1.5,"primary":"a","secondary":"b","solo":""})",
        R"({"pair":"demo","generation":"1","primary":"a","secondary":"b","solo":""})",
        R"({"pair":"demo","generation":1,"primary":null,"secondary":"b","solo":""})"}) {
    EXPECT_FALSE(record_from_json(foreign)) << foreign;
  }
}

}  // namespace
}  // namespace tandem::arbiter
