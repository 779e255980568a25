// The trace of compared frames: when it records, what it keeps, and what it answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/base64.hpp"
#include "engine/session/trace_buffer.hpp"
#include "tests/unit/packet_builder.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using proxy::test::Bytes;
using testing::ElementsAre;

constexpr TraceBuffer::Time kStart{1h};
const std::chrono::system_clock::time_point kTime{1'700'000'000s + 123456us};

/// A buffer that somebody reads.
TraceBuffer recording(TraceLimits limits = {}) {
  TraceBuffer buffer({"n0", "wan"}, limits);
  buffer.touch(kStart);
  return buffer;
}

void add(TraceBuffer& buffer, std::string comment = "released") {
  buffer.add(kTime, 0, TraceSide::primary, 3, proxy::test::tcp({.payload = "hello"}),
             std::move(comment));
}

std::vector<std::uint64_t> numbers(const nlohmann::json& answer) {
  std::vector<std::uint64_t> found;
  for (const auto& record : answer["records"]) found.push_back(record["seq"]);
  return found;
}

TEST(TraceBuffer, RecordsOnlyWhileSomebodyReads) {
  TraceBuffer buffer({"n0"});
  EXPECT_FALSE(buffer.active());
  add(buffer);
  EXPECT_EQ(buffer.last(), 0u);
  EXPECT_FALSE(buffer.expired(kStart)) << "it had not begun";
  buffer.touch(kStart);
  EXPECT_TRUE(buffer.active());
  add(buffer);
  EXPECT_EQ(buffer.last(), 1u);
  EXPECT_FALSE(buffer.expired(kStart + 10s - 1ms));
  buffer.touch(kStart + 9s);
  EXPECT_FALSE(buffer.expired(kStart + 19s - 1ms)) << "it was read again";
  EXPECT_TRUE(buffer.expired(kStart + 19s));
  EXPECT_FALSE(buffer.active());
  EXPECT_EQ(buffer.size(), 0u);
  EXPECT_EQ(buffer.bytes(), 0u);
  EXPECT_FALSE(buffer.expired(kStart + 1h)) << "it has ended already";
}

TEST(TraceBuffer, ARecordHasTheEthernetFrameAndEverythingAboutIt) {
  auto buffer = recording();
  const auto frame = proxy::test::tcp({.payload = "hello"});
  const auto bare = proxy::test::tcp({.payload = "hello"}, {.vnet = 0});
  buffer.add(kTime, 0, TraceSide::primary, 7, frame, "split at 1448");
  buffer.add(kTime, 1, TraceSide::secondary, 8, bare, "held");
  buffer.add(kTime, 2, TraceSide::client, 9, {}, "");
  const auto answer = buffer.after(0);
  ASSERT_EQ(answer["records"].size(), 3u);
  const Bytes ethernet(frame.begin() + 8 + 12, frame.end());
  EXPECT_EQ(answer["records"][0], (nlohmann::json{{"seq", 1},
                                                  {"time", 1'700'000'000.123456},
                                                  {"nic", "n0"},
                                                  {"side", "primary"},
                                                  {"epoch", 7},
                                                  {"comment", "split at 1448"},
                                                  {"frame", encode_base64(ethernet)}}));
  EXPECT_EQ(answer["records"][1]["frame"], encode_base64(ethernet)) << "without a virtio header";
  EXPECT_EQ(answer["records"][1]["nic"], "wan");
  EXPECT_EQ(answer["records"][1]["side"], "secondary");
  EXPECT_EQ(answer["records"][2]["side"], "client");
  EXPECT_EQ(answer["records"][2]["frame"], "");
  EXPECT_EQ(answer["records"][2]["nic"], "") << "no such NIC";
  EXPECT_EQ(answer["next"], 3);
  EXPECT_EQ(answer["dropped"], 0);
}

TEST(TraceBuffer, AFrameThatClaimsMoreHeaderThanItHasIsEmpty) {
  auto buffer = recording();
  Bytes frame;
  proxy::test::put32(frame, 4);
  proxy::test::put32(frame, 0xffff'ffff);
  proxy::test::put32(frame, 0);
  for (std::size_t size = 0; size <= frame.size(); ++size) {
    buffer.add(kTime, 0, TraceSide::primary, 0, std::span(frame).first(size), "");
  }
  const auto answer = buffer.after(0);
  for (const auto& record : answer["records"]) EXPECT_EQ(record["frame"], "");
}

TEST(TraceBuffer, AnswersWhatIsNewerThanTheNumberAskedFor) {
  auto buffer = recording();
  EXPECT_EQ(buffer.after(0)["next"], 0);
  for (int i = 0; i < 4; ++i) add(buffer);
  EXPECT_THAT(numbers(buffer.after(0)), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(numbers(buffer.after(2)), ElementsAre(3, 4));
  EXPECT_EQ(buffer.after(2)["next"], 4);
  const auto none = buffer.after(4);
  EXPECT_TRUE(none["records"].empty());
  EXPECT_EQ(none["next"], 4);
  EXPECT_EQ(none["dropped"], 0);
  // The asker knows numbers of a buffer that is gone.
  EXPECT_THAT(numbers(buffer.after(5)), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(buffer.after(5)["next"], 4);
  EXPECT_EQ(buffer.after(5)["dropped"], 0);
}

TEST(TraceBuffer, NumbersGoOnWhenRecordingBeginsAgain) {
  auto buffer = recording();
  add(buffer);
  add(buffer);
  EXPECT_TRUE(buffer.expired(kStart + 10s));
  buffer.touch(kStart + 1min);
  add(buffer);
  EXPECT_THAT(numbers(buffer.after(1)), ElementsAre(3));
  EXPECT_EQ(buffer.after(1)["dropped"], 1);
}

TEST(TraceBuffer, TheOldestGoesBeyondTheNumberOfRecords) {
  auto buffer = recording({.records_max = 3});
  for (int i = 0; i < 5; ++i) add(buffer);
  EXPECT_EQ(buffer.size(), 3u);
  EXPECT_EQ(buffer.evicted(), 2u);
  EXPECT_THAT(numbers(buffer.after(0)), ElementsAre(3, 4, 5));
  EXPECT_EQ(buffer.after(0)["dropped"], 2);
  EXPECT_EQ(buffer.after(1)["dropped"], 1);
  EXPECT_EQ(buffer.after(2)["dropped"], 0) << "what was read is no loss";
}

TEST(TraceBuffer, TheOldestGoesBeyondTheNumberOfBytes) {
  auto probe = recording();
  add(probe);
  const auto one = probe.bytes();
  EXPECT_EQ(one, proxy::test::tcp({.payload = "hello"}).size() - 20 + std::strlen("released"));
  auto buffer = recording({.bytes_max = 3 * one});
  for (int i = 0; i < 3; ++i) add(buffer);
  EXPECT_EQ(buffer.evicted(), 0u);
  add(buffer);
  EXPECT_EQ(buffer.evicted(), 1u);
  EXPECT_EQ(buffer.bytes(), 3 * one);
  EXPECT_THAT(numbers(buffer.after(0)), ElementsAre(2, 3, 4));
}

TEST(TraceBuffer, AnAnswerHasNoMoreRecordsThanAllowed) {
  auto buffer = recording({.answer_records_max = 2});
  for (int i = 0; i < 5; ++i) add(buffer);
  const auto answer = buffer.after(1);
  EXPECT_THAT(numbers(answer), ElementsAre(2, 3));
  EXPECT_EQ(answer["next"], 3);
  EXPECT_THAT(numbers(buffer.after(answer["next"])), ElementsAre(4, 5));
}

TEST(TraceBuffer, AnAnswerHasNoMoreBytesThanAllowed) {
  const auto frame = proxy::test::tcp({.payload = proxy::test::pattern(60'000)});
  auto buffer = recording({.answer_bytes_max = 200'000});
  for (int i = 0; i < 5; ++i) buffer.add(kTime, 0, TraceSide::primary, 1, frame, "");
  const auto answer = buffer.after(0);
  EXPECT_THAT(numbers(answer), ElementsAre(1, 2));
  EXPECT_LE(answer.dump().size(), 200'000u);
  EXPECT_EQ(answer["next"], 2);
  // What stands around a small frame counts, too.
  auto many = recording({.answer_bytes_max = 2'000});
  for (int i = 0; i < 50; ++i) many.add(kTime, 0, TraceSide::primary, 1, {}, "");
  EXPECT_LE(many.after(0).dump().size(), 2'000u);
  // One that has more alone goes alone.
  auto small = recording({.answer_bytes_max = 1});
  for (int i = 0; i < 2; ++i) small.add(kTime, 0, TraceSide::primary, 1, frame, "");
  EXPECT_THAT(numbers(small.after(0)), ElementsAre(1));
}

TEST(TraceBuffer, ALongCommentIsCut) {
  auto buffer = recording();
  add(buffer, std::string(10'000, 'x'));
  EXPECT_EQ(buffer.after(0)["records"][0]["comment"], std::string(512, 'x'));
}

TEST(TraceBuffer, HoldsWhatItPromisesByDefault) {
  auto buffer = recording();
  const Bytes small = proxy::test::arp();
  for (int i = 0; i < 10'001; ++i) buffer.add(kTime, 0, TraceSide::primary, 1, small, "");
  EXPECT_EQ(buffer.size(), 10'000u);
  EXPECT_EQ(buffer.after(0)["records"].size(), 2'000u);
  const auto large = proxy::test::tcp({.payload = proxy::test::pattern(60'000)});
  for (int i = 0; i < 200; ++i) buffer.add(kTime, 0, TraceSide::primary, 1, large, "");
  EXPECT_LE(buffer.bytes(), 4u << 20);
  EXPECT_GT(buffer.bytes(), (4u << 20) - 61'000);
  EXPECT_LE(buffer.after(buffer.last() - 60).dump().size(), 2u << 20);
}

}  // namespace
}  // namespace tandem::session
