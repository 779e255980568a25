// What the survival experiment says and checks on a connection, against a guest that is right and
// against guests that are wrong in one byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstring>

#include "experiments/guests/peer_stream.h"
#include "experiments/survival/exchange.hpp"

namespace tandem::survival {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

std::uint64_t sum_of(std::string_view text) {
  return peer_sum(PEER_SUM_START, reinterpret_cast<const unsigned char*>(text.data()), text.size());
}

std::uint32_t crc_of(std::string_view text) {
  return peer_crc32(reinterpret_cast<const unsigned char*>(text.data()), text.size());
}

std::string stream(std::uint64_t seed, std::uint64_t position, std::size_t size) {
  std::string bytes(size, 0);
  peer_stream_fill(seed, position, reinterpret_cast<unsigned char*>(bytes.data()), size);
  return bytes;
}

std::string hex(std::uint64_t number, int digits) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "%0*llx", digits,
                static_cast<unsigned long long>(number));
  return text.data();
}

std::string produced(Exchange& exchange, Time now) {
  std::string out;
  exchange.produce(now, out);
  return out;
}

const Time start{1000s};

TEST(PeerStream, IsSplitMix64) {
  // Reference values of the algorithm's authors, seeds 0 and 1234567.
  EXPECT_EQ(peer_stream_word(0, 0), 0xe220a8397b1dcdafU);
  EXPECT_EQ(peer_stream_word(1234567, 0), 6457827717110365317U);
  EXPECT_EQ(peer_stream_word(1234567, 1), 3203168211198807973U);
}

RC_GTEST_PROP(PeerStream, IsTheSameInAnyPieces, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto position = *rc::gen::inRange<std::uint64_t>(0, 100);
  const auto first = *rc::gen::inRange<std::size_t>(0, 50);
  const auto second = *rc::gen::inRange<std::size_t>(0, 50);
  RC_ASSERT(stream(seed, position, first) + stream(seed, position + first, second) ==
            stream(seed, position, first + second));
}

TEST(PeerSum, IsFnv1a) {
  EXPECT_EQ(sum_of(""), 0xcbf29ce484222325U);
  EXPECT_EQ(sum_of("a"), 0xaf63dc4c8601ec8cU);
  EXPECT_EQ(sum_of("foobar"), 0x85944171f73967e8U);
}

TEST(PeerCrc, IsThatOfEthernet) {
  EXPECT_EQ(crc_of("123456789"), 0xcbf43926U);
}

TEST(Pace, IsSteadyAndMakesUpForALittleOnly) {
  Pace pace(20, start);
  EXPECT_EQ(pace.take(start), start);
  EXPECT_EQ(pace.take(start + 49ms), std::nullopt);
  EXPECT_EQ(pace.take(start + 53ms), start + 50ms);
  int caught_up = 0;
  while (pace.take(start + 10s)) ++caught_up;
  EXPECT_LE(caught_up, 3);
}

TEST(EchoExchange, CountsWhatComesBackRight) {
  const auto echo = make_echo({.seed = 7, .message_bytes = 10}, start);
  auto sent = produced(*echo, start);
  ASSERT_EQ(sent, "ECHO\n" + stream(7, 0, 10));
  EXPECT_EQ(echo->due(), start + 50ms);
  sent.erase(0, 5);
  ASSERT_TRUE(echo->consume(sent.substr(0, 4), start + 3ms));
  EXPECT_EQ(echo->account().replies, 0U);
  ASSERT_TRUE(echo->consume(sent.substr(4), start + 4ms));
  EXPECT_EQ(echo->account().replies, 1U);
  EXPECT_THAT(echo->account().answers, ElementsAre(start + 4ms));
  EXPECT_EQ(echo->account().latencies.at(0).took, 4ms);
  EXPECT_TRUE(echo->complete());
  EXPECT_FALSE(echo->settled());
  echo->finish();
  EXPECT_TRUE(echo->settled());
  EXPECT_EQ(produced(*echo, start + 1s), "");
}

TEST(EchoExchange, FindsOneWrongByteAndOneTooMany) {
  for (std::size_t wrong = 0; wrong < 10; ++wrong) {
    const auto echo = make_echo({.message_bytes = 10, .says_echo = false}, start);
    auto sent = produced(*echo, start);
    sent[wrong] = static_cast<char>(sent[wrong] ^ 1);
    const auto got = echo->consume(sent, start);
    ASSERT_FALSE(got);
    EXPECT_THAT(got.error().message, HasSubstr("byte " + std::to_string(wrong) + " "));
  }
  const auto echo = make_echo({.message_bytes = 10, .says_echo = false}, start);
  EXPECT_FALSE(echo->consume(produced(*echo, start) + "x", start));
}

TEST(EchoExchange, WaitsForWhatHasNotComeBack) {
  const auto echo = make_echo({.message_bytes = 10, .window = 2, .says_echo = false}, start);
  (void)produced(*echo, start);
  (void)produced(*echo, start + 1s);
  EXPECT_EQ(produced(*echo, start + 2s), "") << "the window is full";
  EXPECT_EQ(echo->due(), std::nullopt);
  echo->finish();
  EXPECT_FALSE(echo->settled());
  EXPECT_FALSE(echo->complete());
  EXPECT_EQ(echo->missing(), "20 of 20 bytes have not come back");
}

TEST(UploadExchange, TakesOnlyTheRightSums) {
  const auto upload = make_upload(3, 1024);
  const auto sent = produced(*upload, start);
  ASSERT_TRUE(sent.starts_with("SINK 1024\n"));
  EXPECT_GE(sent.size(), Exchange::out_bytes_max);
  const auto body = std::string_view(sent).substr(10);
  EXPECT_EQ(body, stream(3, 0, body.size()));
  ASSERT_TRUE(upload->consume("1024 " + hex(sum_of(body.substr(0, 1024)), 16) + "\n20", start));
  ASSERT_TRUE(upload->consume("48 " + hex(sum_of(body.substr(0, 2048)), 16) + "\n", start));
  EXPECT_EQ(upload->account().received, 2048U);
  EXPECT_FALSE(upload->consume("3072 " + hex(sum_of(body.substr(0, 3071)), 16) + "\n", start));
}

TEST(UploadExchange, IsCompleteWithTheLastWordBehindTheFin) {
  const auto upload = make_upload(3, 1 << 20);
  const auto sent = produced(*upload, start);
  const auto body = std::string_view(sent).substr(sent.find('\n') + 1);
  EXPECT_FALSE(upload->settled());
  upload->finish();
  EXPECT_TRUE(upload->settled()) << "the last word comes only after the FIN";
  EXPECT_FALSE(upload->complete());
  ASSERT_TRUE(
      upload->consume(std::to_string(body.size()) + " " + hex(sum_of(body), 16) + "\n", start));
  EXPECT_TRUE(upload->complete());
}

TEST(DownloadExchange, AsksForMoreByHalfWindowsAndChecksEveryByte) {
  const auto download = make_download(9, 1000);
  EXPECT_EQ(produced(*download, start), "SOURCE 9 1000\n");
  ASSERT_TRUE(download->consume(stream(9, 0, 499), start));
  EXPECT_EQ(produced(*download, start), "");
  ASSERT_TRUE(download->consume(stream(9, 499, 1), start));
  EXPECT_EQ(produced(*download, start), "500\n");
  download->finish();
  EXPECT_FALSE(download->settled());
  ASSERT_TRUE(download->consume(stream(9, 500, 1000), start));
  EXPECT_TRUE(download->settled());
  EXPECT_FALSE(download->consume("x", start));

  const auto wrong = make_download(9, 1000);
  (void)produced(*wrong, start);
  auto bytes = stream(9, 0, 600);
  bytes[550] = static_cast<char>(bytes[550] ^ 0x40);
  EXPECT_FALSE(wrong->consume(bytes, start));
}

std::string random_reply(const std::string& id, char digit = '5') {
  const auto body = id + " " + std::string(64, digit);
  return body + " " + hex(crc_of(body), 8) + "\n";
}

TEST(RandomExchange, TakesEachIdOnceWithItsChecksumAndNewBytes) {
  const auto random = make_random(10ms, start);
  EXPECT_EQ(produced(*random, start), "RANDOM\n1\n");
  EXPECT_FALSE(random->complete());
  ASSERT_TRUE(random->consume(random_reply("1"), start + 1ms));
  EXPECT_EQ(produced(*random, start + 1ms), "");
  EXPECT_EQ(random->due(), start + 11ms);
  EXPECT_EQ(produced(*random, start + 11ms), "2\n");
  ASSERT_TRUE(random->consume(random_reply("2", '6'), start + 12ms));
  EXPECT_EQ(random->account().replies, 2U);
  EXPECT_FALSE(random->consume(random_reply("2", '6'), start + 13ms)) << "answered twice";
}

TEST(RandomExchange, RefusesAWrongIdAWrongChecksumAndOldBytes) {
  const auto asked = [](int id) {
    auto random = make_random(0ms, start);
    for (int i = 1; i <= id; ++i) {
      (void)produced(*random, start);
      if (i < id) {
        EXPECT_TRUE(random->consume(random_reply(std::to_string(i), '5'), start));
      }
    }
    return random;
  };
  EXPECT_FALSE(asked(2)->consume(random_reply("1", '6'), start));
  EXPECT_FALSE(asked(2)->consume(random_reply("3", '6'), start));
  EXPECT_FALSE(asked(11)->consume(random_reply("1", '6'), start));
  auto damaged = random_reply("1");
  damaged[20] = '6';
  EXPECT_FALSE(asked(1)->consume(damaged, start));
  EXPECT_FALSE(asked(1)->consume("error: no randomness\n", start));
}

// peerd's answer to a request of SERVE for what is known beforehand.
std::string known_reply(std::uint64_t id) {
  auto body = std::to_string(id) + " ";
  for (const char byte : stream(id, 0, 32)) body += hex(static_cast<unsigned char>(byte), 2);
  return body + " " + hex(crc_of(body), 8) + "\n";
}

// 100 requests a second for a second, random from its half on.
std::unique_ptr<Exchange> service() {
  ServiceOptions options;
  options.pages = 7;
  options.requests_per_second = 100;
  options.begin = start;
  options.end = start + 1s;
  options.random = [](Time due) { return due >= start + 500ms; };
  return make_service(options);
}

TEST(ServiceExchange, LeavesNoRequestOutAndCountsFromWhenEachWasDue) {
  const auto exchange = service();
  EXPECT_EQ(produced(*exchange, start), "SERVE 7\nD 1\n");
  EXPECT_EQ(exchange->due(), start + 10ms);
  EXPECT_EQ(produced(*exchange, start + 30ms), "D 2\nD 3\nD 4\n");
  ASSERT_TRUE(exchange->consume(known_reply(1) + known_reply(2), start + 40ms));
  EXPECT_EQ(exchange->account().latencies.at(0).took, 40ms);
  EXPECT_EQ(exchange->account().latencies.at(1).took, 30ms);
  EXPECT_FALSE(exchange->complete());
}

TEST(ServiceExchange, AsksForRandomAnswersWhenItIsTimeAndEndsWithItsTime) {
  const auto exchange = service();
  const auto all = produced(*exchange, start + 2s);
  EXPECT_THAT(all, HasSubstr("D 50\nR 51\n"));
  EXPECT_THAT(all, testing::EndsWith("R 100\n"));
  EXPECT_EQ(exchange->due(), std::nullopt);
  EXPECT_EQ(exchange->account().requests, 100U);
}

TEST(ServiceExchange, RefusesAnAnswerOfTheOtherKindAWrongOneAndOneTooMany) {
  const auto asked = [](Time when) {
    auto exchange = service();
    (void)produced(*exchange, when);
    return exchange;
  };
  EXPECT_FALSE(asked(start)->consume(random_reply("1"), start)) << "random";
  EXPECT_FALSE(asked(start + 10ms)->consume(known_reply(2), start)) << "out of order";
  EXPECT_FALSE(asked(start)->consume(known_reply(1) + known_reply(2), start)) << "unasked";
  auto damaged = known_reply(1);
  damaged[5] = damaged[5] == '0' ? '1' : '0';
  EXPECT_FALSE(asked(start)->consume(damaged, start)) << "damaged";

  const auto exchange = asked(start + 500ms);
  for (std::uint64_t id = 1; id <= 50; ++id)
    ASSERT_TRUE(exchange->consume(known_reply(id), start + 501ms));
  EXPECT_FALSE(exchange->consume(known_reply(51), start + 501ms)) << "known";
  const auto other = asked(start + 500ms);
  for (std::uint64_t id = 1; id <= 50; ++id)
    ASSERT_TRUE(other->consume(known_reply(id), start + 501ms));
  EXPECT_TRUE(other->consume(random_reply("51"), start + 501ms));
}

TEST(CounterExchange, ExpectsEveryNumberInTurn) {
  const auto counter = make_counter({.key = "k", .requests_per_second = 100}, start);
  EXPECT_EQ(produced(*counter, start), "INCR k\r\n");
  EXPECT_EQ(counter->due(), start + 10ms);
  EXPECT_EQ(produced(*counter, start + 10ms), "INCR k\r\n");
  ASSERT_TRUE(counter->consume(":1\r\n:2", start + 12ms));
  ASSERT_TRUE(counter->consume("\r\n", start + 13ms));
  EXPECT_EQ(counter->account().replies, 2U);
  EXPECT_EQ(counter->account().latencies.at(0).took, 12ms);
  EXPECT_EQ(counter->account().latencies.at(1).took, 3ms);
  (void)produced(*counter, start + 24ms);
  ASSERT_TRUE(counter->consume(":3\r\n", start + 25ms));
  EXPECT_EQ(counter->account().latencies.at(2).took, 5ms) << "it was due after 20 ms";
  (void)produced(*counter, start + 30ms);
  EXPECT_FALSE(counter->consume(":3\r\n", start + 21ms)) << "a write was lost";
}

TEST(CounterExchange, ClosedLoopHasOneRequestAtATime) {
  const auto counter = make_counter({.requests_per_second = 0}, start);
  EXPECT_EQ(produced(*counter, start), "INCR counter\r\n");
  EXPECT_EQ(produced(*counter, start + 1s), "");
  ASSERT_TRUE(counter->consume(":1\r\n", start + 1s));
  EXPECT_EQ(produced(*counter, start + 1s), "INCR counter\r\n");
}

}  // namespace
}  // namespace tandem::survival
