// The client's book-keeping: what counts as acknowledged, as lost, and as an outage.
#include <gtest/gtest.h>

#include <numeric>

#include "experiments/demo/ledger.hpp"

namespace tandem::demo {
namespace {

using std::chrono::milliseconds;
using Kind = RespValue::Kind;

const RespValue kOk{Kind::simple, "OK", 0};
const RespValue kNil{Kind::nil, "", 0};

Time at(int ms) {
  return Time(milliseconds(ms));
}
RespValue bulk(std::string text) {
  return {Kind::bulk, std::move(text), 0};
}

TEST(WriteLedger, HoldsBackWhatExceedsTheWindow) {
  WriteLedger ledger(2);
  EXPECT_TRUE(ledger.may_send());
  EXPECT_EQ(ledger.send(), 1U);
  EXPECT_EQ(ledger.send(), 2U);
  EXPECT_FALSE(ledger.may_send());
  ASSERT_TRUE(ledger.answer(at(1), kOk).has_value());
  EXPECT_TRUE(ledger.may_send());
  EXPECT_EQ(ledger.send(), 3U);
}

TEST(WriteLedger, CountsOnlyOkAsAcknowledged) {
  WriteLedger ledger(10);
  for (int i = 0; i < 3; ++i) ledger.send();
  EXPECT_TRUE(ledger.answer(at(1), kOk).has_value());
  EXPECT_EQ(ledger.answer(at(2), {Kind::error, "OOM", 0}).error().code, Errc::refused);
  EXPECT_EQ(ledger.answer(at(3), bulk("OK")).error().code, Errc::refused);
  EXPECT_EQ(ledger.acknowledged(), (std::vector<std::uint64_t>{1}));
  EXPECT_EQ(ledger.outstanding(), 0U);
}

TEST(WriteLedger, RefusesAnAnswerToNothing) {
  WriteLedger ledger(10);
  EXPECT_EQ(ledger.answer(at(1), kOk).error().code, Errc::protocol);
  EXPECT_TRUE(ledger.acknowledged().empty());
}

TEST(ReadBack, FindsNothingLostWhenAllIsThere) {
  ReadBack read_back({1, 2, 3});
  while (const auto n = read_back.ask())
    ASSERT_TRUE(read_back.answer(bulk(WriteLedger::value_of(*n))).has_value());
  EXPECT_TRUE(read_back.complete());
  EXPECT_EQ(read_back.lost(), 0U);
  EXPECT_TRUE(read_back.examples().empty());
}

TEST(ReadBack, CountsMissingWrongAndRefusedValuesAsLost) {
  ReadBack read_back({1, 2, 3, 7});
  for (int i = 0; i < 4; ++i) read_back.ask();
  ASSERT_TRUE(read_back.answer(bulk("1")).has_value());
  ASSERT_TRUE(read_back.answer(kNil).has_value());
  ASSERT_TRUE(read_back.answer(bulk("2")).has_value());  // the answer to 3
  ASSERT_TRUE(read_back.answer({Kind::error, "7", 0}).has_value());
  EXPECT_TRUE(read_back.complete());
  EXPECT_EQ(read_back.lost(), 3U);
  EXPECT_EQ(read_back.examples(), (std::vector<std::uint64_t>{2, 3, 7}));
}

TEST(ReadBack, CountsWhatCouldNotBeAskedForAsLost) {
  ReadBack read_back({1, 2, 3});
  read_back.ask();
  ASSERT_TRUE(read_back.answer(bulk("1")).has_value());
  EXPECT_FALSE(read_back.complete());
  EXPECT_EQ(read_back.lost(), 2U);
}

TEST(ReadBack, AsksAgainBehindTheLastAnswerOnANewConnection) {
  ReadBack read_back({4, 5, 6});
  read_back.ask();
  read_back.ask();
  ASSERT_TRUE(read_back.answer(bulk("4")).has_value());
  read_back.restart();
  EXPECT_EQ(read_back.ask(), 5U);
  EXPECT_EQ(read_back.ask(), 6U);
  EXPECT_EQ(read_back.ask(), std::nullopt);
}

TEST(ReadBack, RefusesAnAnswerToNoQuestion) {
  ReadBack read_back({1});
  EXPECT_EQ(read_back.answer(kNil).error().code, Errc::protocol);
  EXPECT_EQ(read_back.lost(), 1U);
}

TEST(LongestSilence, IsTheGapThatTheKillFallsInto) {
  const std::vector answers{at(0), at(10), at(500), at(510)};
  EXPECT_EQ(longest_silence(answers, at(20), std::nullopt), milliseconds(490));
}

TEST(LongestSilence, LeavesOutGapsThatEndedBeforeTheKill) {
  const std::vector answers{at(0), at(1000), at(1010), at(1030)};
  EXPECT_EQ(longest_silence(answers, at(1005), std::nullopt), milliseconds(20));
}

TEST(LongestSilence, AlsoCountsALaterGap) {
  const std::vector answers{at(0), at(10), at(20), at(320), at(330)};
  EXPECT_EQ(longest_silence(answers, at(5), std::nullopt), milliseconds(300));
}

TEST(LongestSilence, GoesOnWhileTheClientStillWaits) {
  const std::vector answers{at(0), at(10)};
  EXPECT_EQ(longest_silence(answers, at(20), at(9010)), milliseconds(9000));
}

TEST(LongestSilence, CountsFromTheKillIfNothingCameBefore) {
  EXPECT_EQ(longest_silence(std::vector{at(70)}, at(20), std::nullopt), milliseconds(50));
  EXPECT_EQ(longest_silence({}, at(20), at(120)), milliseconds(100));
}

TEST(LongestSilence, IsZeroIfNothingWasExpectedAfterTheKill) {
  EXPECT_EQ(longest_silence(std::vector{at(10)}, at(20), std::nullopt), milliseconds(0));
}

TEST(FirstAnswer, IsTheFirstOneFromThatInstantOn) {
  const std::vector answers{at(0), at(10), at(30)};
  EXPECT_EQ(first_answer(answers, at(10)), at(10));
  EXPECT_EQ(first_answer(answers, at(11)), at(30));
  EXPECT_EQ(first_answer(answers, at(31)), std::nullopt);
}

}  // namespace
}  // namespace tandem::demo
