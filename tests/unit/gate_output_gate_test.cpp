// The output gate and the framing that it cuts its input by.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/big_endian.hpp"
#include "proxy/chardev_framing.hpp"
#include "proxy/output_gate.hpp"

namespace tandem::proxy {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

/// A frame as a filter sends it; `vnet` is the length of its virtio-net header.
Bytes frame(std::string_view content, std::uint32_t vnet = 0) {
  Bytes bytes(frame_prefix_size + content.size());
  store_be(bytes.data(), static_cast<std::uint32_t>(content.size()));
  store_be(bytes.data() + 4, vnet);
  std::memcpy(bytes.data() + frame_prefix_size, content.data(), content.size());
  return bytes;
}

Bytes prefix(std::uint32_t length, std::uint32_t vnet) {
  Bytes bytes(frame_prefix_size);
  store_be(bytes.data(), length);
  store_be(bytes.data() + 4, vnet);
  return bytes;
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

FrameSpan whole(const Bytes& bytes) {
  const auto scan = FrameScanner::scan(bytes);
  EXPECT_TRUE(scan && scan->complete == bytes.size());
  return {bytes, scan ? scan->frames : 0};
}

void capture(OutputGate& gate, const Bytes& bytes) {
  gate.capture(whole(bytes));
}

/// Everything that may leave now.
Bytes leave(OutputGate& gate) {
  Bytes out;
  while (!gate.outbox().empty()) {
    const auto piece = gate.outbox().front();
    out.insert(out.end(), piece.begin(), piece.end());
    gate.outbox().consume(piece.size());
  }
  return out;
}

TEST(FrameScanner, FindsTheLongestPrefixOfWholeFrames) {
  const auto bytes = frame("one") + frame("three", 2);
  const auto scan = FrameScanner::scan(bytes);
  ASSERT_TRUE(scan);
  EXPECT_EQ(scan->complete, bytes.size());
  EXPECT_EQ(scan->frames, 2u);
}

TEST(FrameScanner, CountsOnlyWholeFramesAtEveryCut) {
  const auto first = frame("one");
  const auto bytes = first + frame("three");
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    const auto scan = FrameScanner::scan(std::span(bytes).first(cut));
    ASSERT_TRUE(scan);
    EXPECT_EQ(scan->frames, cut < first.size() ? 0u : 1u) << cut;
    EXPECT_EQ(scan->complete, cut < first.size() ? 0u : first.size()) << cut;
  }
}

TEST(FrameScanner, AcceptsTheLargestFrameAndRefusesOneByteMore) {
  EXPECT_TRUE(FrameScanner::scan(prefix(frame_length_max, 12)));
  const auto refused = FrameScanner::scan(prefix(frame_length_max + 1, 12));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::protocol);
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(frame_length_max + 1)));
}

TEST(FrameScanner, RefusesLengthsThatNoFilterSends) {
  EXPECT_FALSE(FrameScanner::scan(prefix(0, 0))) << "an empty frame";
  EXPECT_FALSE(FrameScanner::scan(prefix(10, 11))) << "a header longer than its frame";
  EXPECT_FALSE(FrameScanner::scan(prefix(100, 65))) << "a header longer than any";
  EXPECT_FALSE(FrameScanner::scan(prefix(0xffffffff, 12)));
  EXPECT_TRUE(FrameScanner::scan(prefix(64, 64)));
}

TEST(OutputGate, OpenGatePassesFramesUnchanged) {
  OutputGate gate;
  const auto bytes = frame("hello", 3) + frame("world");
  capture(gate, bytes);
  EXPECT_EQ(leave(gate), bytes);
  EXPECT_EQ(gate.counters().released_frames, 2u);
}

TEST(OutputGate, HeldFramesStayUntilTheirEpochIsReleased) {
  OutputGate gate;
  gate.hold();
  EXPECT_FALSE(gate.is_open());
  capture(gate, frame("a"));
  EXPECT_TRUE(leave(gate).empty());
  gate.release_through(100);
  EXPECT_TRUE(leave(gate).empty()) << "an epoch that is not closed has not ended";
  gate.close_epoch(0);
  EXPECT_TRUE(leave(gate).empty()) << "closing is not releasing";
  gate.release_through(0);
  EXPECT_EQ(leave(gate), frame("a"));
  EXPECT_EQ(gate.held_frames(), 0u);
  EXPECT_EQ(gate.held_bytes(), 0u);
}

TEST(OutputGate, WhatWasCapturedBeforeHoldMayLeave) {
  OutputGate gate;
  capture(gate, frame("before"));
  gate.hold();
  capture(gate, frame("after"));
  EXPECT_EQ(leave(gate), frame("before"));
}

TEST(OutputGate, ReleasesThroughTheNamedEpochAndNoFurther) {
  OutputGate gate;
  gate.hold();
  for (std::uint64_t epoch = 0; epoch < 4; ++epoch) {
    capture(gate, frame("epoch " + std::to_string(epoch)));
    gate.close_epoch(epoch);
  }
  gate.release_through(1);
  EXPECT_EQ(leave(gate), frame("epoch 0") + frame("epoch 1"));
  gate.release_through(1);
  EXPECT_TRUE(leave(gate).empty());
  gate.release_through(3);
  EXPECT_EQ(leave(gate), frame("epoch 2") + frame("epoch 3"));
}

TEST(OutputGate, EpochsWithoutOutputAreNothing) {
  OutputGate gate;
  gate.hold();
  gate.close_epoch(0);
  gate.close_epoch(1);
  capture(gate, frame("in 2"));
  gate.close_epoch(2);
  gate.release_through(1);
  EXPECT_TRUE(leave(gate).empty());
  gate.release_through(2);
  EXPECT_EQ(leave(gate), frame("in 2"));
}

TEST(OutputGate, OpenLetsEverythingLeaveInOrderAndLaterFramesPass) {
  OutputGate gate;
  gate.hold();
  capture(gate, frame("a"));
  gate.close_epoch(0);
  capture(gate, frame("b"));
  gate.close_epoch(1);
  capture(gate, frame("c"));
  gate.open();
  capture(gate, frame("d"));
  EXPECT_EQ(leave(gate), frame("a") + frame("b") + frame("c") + frame("d"));
  EXPECT_EQ(gate.held_bytes(), 0u);
}

TEST(OutputGate, WhatMayPassLeavesAtOnceIfNothingEarlierIsHeld) {
  OutputGate gate;
  gate.hold();
  capture(gate, frame("held"));
  gate.pass(whole(frame("passed")));
  EXPECT_EQ(leave(gate), frame("passed")) << "the epoch's other output is compared, not ordered";
  EXPECT_EQ(gate.held_frames(), 1u);
}

TEST(OutputGate, WhatMayPassLeavesBehindEarlierEpochs) {
  OutputGate gate;
  gate.hold();
  capture(gate, frame("epoch 0"));
  gate.close_epoch(0);
  gate.pass(whole(frame("of epoch 1")));
  EXPECT_TRUE(leave(gate).empty());
  gate.release_through(0);
  EXPECT_EQ(leave(gate), frame("epoch 0") + frame("of epoch 1"));
}

TEST(OutputGate, WhatMayPassLeavesBeforeTheRestOfItsEpoch) {
  OutputGate gate;
  gate.hold();
  capture(gate, frame("epoch 0"));
  gate.close_epoch(0);
  gate.pass(whole(frame("passed in 1")));
  capture(gate, frame("held in 1"));
  gate.close_epoch(1);
  gate.pass(whole(frame("passed in 2")));
  gate.release_through(0);
  EXPECT_EQ(leave(gate), frame("epoch 0")) << "epoch 1 is closed, and goes as one";
  gate.release_through(1);
  EXPECT_EQ(leave(gate), frame("passed in 1") + frame("held in 1") + frame("passed in 2"));
  EXPECT_EQ(gate.held_frames(), 0u);
  EXPECT_EQ(gate.held_bytes(), 0u);
}

TEST(OutputGate, OpenLetsWhatMayPassLeaveInItsPlace) {
  OutputGate gate;
  gate.hold();
  capture(gate, frame("a"));
  gate.close_epoch(0);
  gate.pass(whole(frame("b")));
  capture(gate, frame("c"));
  gate.open();
  EXPECT_EQ(leave(gate), frame("a") + frame("b") + frame("c"));
}

Bytes add(FrameAssembler& assembler, const Bytes& bytes) {
  const auto frames = assembler.add(bytes);
  EXPECT_TRUE(frames);
  return frames ? Bytes(frames->bytes.begin(), frames->bytes.end()) : Bytes();
}

TEST(FrameAssembler, AFrameMayBeCutAnywhere) {
  const auto bytes = frame("first", 2) + frame("the second one");
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    FrameAssembler assembler;
    const auto middle = bytes.begin() + static_cast<std::ptrdiff_t>(cut);
    auto whole_frames = add(assembler, {bytes.begin(), middle});
    EXPECT_EQ(assembler.mid_frame(),
              cut != 0 && cut != frame("first").size() && cut != bytes.size())
        << cut;
    whole_frames = whole_frames + add(assembler, {middle, bytes.end()});
    EXPECT_FALSE(assembler.mid_frame()) << cut;
    EXPECT_EQ(whole_frames, bytes) << cut;
  }
}

TEST(FrameAssembler, FramesMayComeByteByByte) {
  const auto bytes = frame("first", 2) + frame("second");
  FrameAssembler assembler;
  Bytes whole_frames;
  std::size_t count = 0;
  for (const auto byte : bytes) {
    const Bytes one{byte};
    const auto frames = assembler.add(one);
    ASSERT_TRUE(frames);
    count += frames->count;
    whole_frames.insert(whole_frames.end(), frames->bytes.begin(), frames->bytes.end());
  }
  EXPECT_EQ(whole_frames, bytes);
  EXPECT_EQ(count, 2u);
}

TEST(FrameAssembler, MalformedBytesAreAnErrorAlsoBehindAPartialFrame) {
  FrameAssembler assembler;
  EXPECT_EQ(assembler.add(prefix(0, 0)).error().code, Errc::protocol);
  FrameAssembler second;
  EXPECT_TRUE(add(second, {std::byte{0xff}}).empty());
  const Bytes rest(7, std::byte{0xff});
  const auto frames = second.add(rest);
  ASSERT_FALSE(frames);
  EXPECT_EQ(frames.error().code, Errc::protocol);
}

TEST(ByteQueue, GivesBackWhatWasAppendedInAnyPieces) {
  ByteQueue queue;
  Bytes all;
  for (std::size_t i = 0; i < 300; ++i) {
    const Bytes piece(i * 7, static_cast<std::byte>(i));
    queue.append(piece);
    all = all + piece;
  }
  EXPECT_EQ(queue.size(), all.size());
  Bytes out;
  while (!queue.empty()) {
    const auto front = queue.front();
    const auto n = std::min<std::size_t>(front.size(), 1000);
    out.insert(out.end(), front.begin(), front.begin() + static_cast<std::ptrdiff_t>(n));
    queue.consume(n);
  }
  EXPECT_EQ(out, all);
  EXPECT_TRUE(queue.front().empty());
}

TEST(OutputGate, PassingTheSoftLimitAsksForACheckpoint) {
  const auto one = frame("0123456789");
  OutputGate gate({.held_bytes_soft = 2 * one.size(), .held_bytes_hard = 100 * one.size()});
  gate.hold();
  capture(gate, one + one);
  EXPECT_FALSE(gate.wants_checkpoint()) << "at the limit, not beyond it";
  capture(gate, one);
  EXPECT_TRUE(gate.wants_checkpoint());
  gate.close_epoch(0);
  EXPECT_FALSE(gate.wants_checkpoint()) << "the checkpoint that lets it leave has begun";
  capture(gate, one);
  EXPECT_FALSE(gate.wants_checkpoint()) << "another one would let nothing leave sooner";
}

TEST(OutputGate, BeyondTheHardLimitFramesAreDroppedAndCounted) {
  const auto one = frame("0123456789");
  OutputGate gate({.held_bytes_soft = one.size(), .held_bytes_hard = 2 * one.size()});
  gate.hold();
  capture(gate, one + one);
  EXPECT_EQ(gate.counters().dropped_frames, 0u);
  capture(gate, one);
  EXPECT_EQ(gate.counters().dropped_frames, 1u);
  EXPECT_EQ(gate.held_bytes(), 2 * one.size());
  gate.open();
  capture(gate, one);
  EXPECT_EQ(gate.counters().dropped_frames, 2u)
      << "what waits to be written counts, for QEMU may not be taking it";
  EXPECT_EQ(leave(gate), one + one);
  capture(gate, one);
  EXPECT_EQ(leave(gate), one) << "room was made";
  const auto& counters = gate.counters();
  EXPECT_EQ(counters.captured_frames, counters.released_frames + counters.dropped_frames);
}

TEST(OutputGate, TheOutboxIsConsumedInPiecesOfAnySize) {
  const auto bytes = frame("a longer frame") + frame("b");
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    OutputGate gate;
    capture(gate, frame("a longer frame"));
    capture(gate, frame("b"));
    Bytes out;
    while (!gate.outbox().empty()) {
      const auto front = gate.outbox().front();
      const auto piece = front.first(std::min(step, front.size()));
      out.insert(out.end(), piece.begin(), piece.end());
      gate.outbox().consume(piece.size());
    }
    EXPECT_EQ(out, bytes) << step;
  }
}

TEST(OutputGate, CountsWhatTheLastLookAtAnEpochsEndFound) {
  OutputGate gate;
  gate.count_drained(3);
  gate.count_drained(0);
  gate.count_drained(2);
  EXPECT_EQ(gate.counters().drained_frames, 5u);
}

}  // namespace
}  // namespace tandem::proxy
