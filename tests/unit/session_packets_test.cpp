// What carries the guest's packets between the two sides: the payload of the packet lane's frames,
// the secondary's input queue, and the list of flows that differed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/big_endian.hpp"
#include "engine/session/input_queue.hpp"
#include "engine/session/mismatch_log.hpp"
#include "engine/session/packet_frame.hpp"
#include "engine/wire/protocol.hpp"

namespace tandem::session {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

Bytes frame(std::size_t size, std::byte fill) {
  Bytes bytes(proxy::frame_prefix_size + size, fill);
  store_be(bytes.data(), static_cast<std::uint32_t>(size));
  store_be(bytes.data() + 4, std::uint32_t{0});
  return bytes;
}

std::vector<std::string> encoded(std::size_t nic, const Bytes& frames) {
  std::vector<std::string> payloads;
  const auto done = encode_packets(nic, frames, [&](std::string_view payload) {
    payloads.emplace_back(payload);
    return Result<void>();
  });
  EXPECT_TRUE(done);
  return payloads;
}

TEST(PacketFrame, RoundTrips) {
  auto frames = frame(60, std::byte{1});
  const auto second = frame(1514, std::byte{2});
  frames.insert(frames.end(), second.begin(), second.end());
  const auto payloads = encoded(3, frames);
  ASSERT_EQ(payloads.size(), 1u);
  const auto packets = decode_packets(payloads[0], 4);
  ASSERT_TRUE(packets);
  EXPECT_EQ(packets->nic, 3u);
  EXPECT_EQ(packets->frames.count, 2u);
  EXPECT_TRUE(std::ranges::equal(packets->frames.bytes, frames));
}

TEST(PacketFrame, MoreThanAPayloadMayHoldIsCutBetweenFrames) {
  Bytes frames;
  for (int i = 0; i < 20; ++i) {
    const auto one = frame(60'000, static_cast<std::byte>(i));
    frames.insert(frames.end(), one.begin(), one.end());
  }
  Bytes joined;
  std::size_t count = 0;
  for (const auto& payload : encoded(0, frames)) {
    EXPECT_LE(payload.size(), wire::packet_payload_max);
    const auto packets = decode_packets(payload, 1);
    ASSERT_TRUE(packets);
    count += packets->frames.count;
    joined.insert(joined.end(), packets->frames.bytes.begin(), packets->frames.bytes.end());
  }
  EXPECT_EQ(count, 20u);
  EXPECT_EQ(joined, frames);
}

TEST(PacketFrame, StopsAtTheFirstPayloadThatFindsNoRoom) {
  Bytes frames;
  for (int i = 0; i < 20; ++i) {
    const auto one = frame(60'000, std::byte{1});
    frames.insert(frames.end(), one.begin(), one.end());
  }
  int posted = 0;
  const auto done = encode_packets(0, frames, [&](std::string_view) -> Result<void> {
    ++posted;
    return Error{Errc::limit, "full"};
  });
  EXPECT_FALSE(done);
  EXPECT_EQ(posted, 1);
}

TEST(PacketFrame, RefusesWhatIsNoWholeFramesOfAKnownNic) {
  auto payload = encoded(1, frame(60, std::byte{1})).at(0);
  EXPECT_THAT(decode_packets(payload, 1).error().message, HasSubstr("NIC 1"));
  EXPECT_EQ(decode_packets("abc", 1).error().code, Errc::protocol);
  for (std::size_t cut = 5; cut < payload.size(); ++cut) {
    const auto packets = decode_packets(std::string_view(payload).substr(0, cut), 2);
    ASSERT_FALSE(packets) << cut;
    EXPECT_EQ(packets.error().code, Errc::protocol) << cut;
  }
  payload[4] = '\x7f';  // a frame longer than any
  EXPECT_EQ(decode_packets(payload, 2).error().code, Errc::protocol);
}

InputQueue::Entry input(Checkpoint epoch, std::string payload, bool reference = false) {
  return {epoch, reference, 0, 1, std::move(payload)};
}

TEST(InputQueue, R4_APacketWaitsForItsEpoch) {
  InputQueue queue(100);
  EXPECT_TRUE(queue.push(input(2, "early")));
  EXPECT_EQ(queue.front(1), nullptr);
  ASSERT_NE(queue.front(2), nullptr);
  EXPECT_EQ(queue.front(2)->payload, "early");
  queue.pop();
  EXPECT_EQ(queue.front(2), nullptr);
  EXPECT_EQ(queue.counters().fed_frames, 1u);
}

TEST(InputQueue, PacketsOfAnEpochThatIsOverAreDroppedAndCounted) {
  InputQueue queue(100);
  queue.push(input(1, "a"));
  queue.push(input(1, "b", true));
  queue.push(input(2, "c"));
  EXPECT_EQ(queue.front(2)->payload, "c");
  EXPECT_EQ(queue.counters().stale_frames, 1u) << "a reference is no client's packet";
}

TEST(InputQueue, OrderIsKeptWithinAnEpoch) {
  InputQueue queue(100);
  for (const auto* payload : {"a", "b", "c"}) queue.push(input(1, payload));
  for (const auto* payload : {"a", "b", "c"}) {
    ASSERT_NE(queue.front(1), nullptr);
    EXPECT_EQ(queue.front(1)->payload, payload);
    queue.pop();
  }
}

TEST(InputQueue, BeyondItsLimitPacketsAreRefusedAndCounted) {
  InputQueue queue(10);
  EXPECT_TRUE(queue.push(input(1, std::string(10, 'x'))));
  EXPECT_FALSE(queue.push(input(1, "y")));
  EXPECT_EQ(queue.counters().dropped_frames, 1u);
  EXPECT_EQ(queue.counters().mirrored_frames, 2u);
  ASSERT_NE(queue.front(1), nullptr);
  queue.pop();
  EXPECT_TRUE(queue.push(input(1, "z"))) << "room was made";
}

proxy::Mismatch mismatch(std::uint16_t port, std::string detail) {
  proxy::Mismatch m{proxy::Reason::payload, {}, std::move(detail)};
  m.flow.guest_port = port;
  return m;
}

TEST(MismatchLog, CountsByFlowNewestFirst) {
  MismatchLog log;
  const std::chrono::system_clock::time_point now{};
  log.add(mismatch(1, "first"), now);
  log.add(mismatch(2, "second"), now);
  log.add(mismatch(1, "third"), now);
  EXPECT_EQ(log.total(), 3u);
  ASSERT_EQ(log.entries().size(), 2u);
  EXPECT_EQ(log.entries()[0].flow.guest_port, 1u);
  EXPECT_EQ(log.entries()[0].count, 2u);
  EXPECT_EQ(log.entries()[0].detail, "third");
  EXPECT_EQ(log.entries()[1].count, 1u);
}

TEST(MismatchLog, RemembersALimitedNumberOfFlows) {
  MismatchLog log;
  for (std::uint16_t port = 0; port < 100; ++port) log.add(mismatch(port, ""), {});
  EXPECT_EQ(log.total(), 100u);
  ASSERT_EQ(log.entries().size(), MismatchLog::flows_max);
  EXPECT_EQ(log.entries()[0].flow.guest_port, 99u);
}

}  // namespace
}  // namespace tandem::session
