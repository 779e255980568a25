// The comparer, with packet vectors: streams, acknowledgements, events, datagrams, limits, and the
// known weaknesses of QEMU's colo-compare.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "proxy/flow_table.hpp"
#include "tests/unit/comparer_fixture.hpp"

namespace tandem::proxy {
namespace {

using namespace test;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr std::uint8_t ack = tcp_flag::ack, syn = tcp_flag::syn, fin = tcp_flag::fin,
                       rst = tcp_flag::rst, psh = tcp_flag::psh;

Tcp data(std::uint32_t seq, std::string payload, std::uint32_t acked = 2000) {
  return {.seq = seq, .ack = acked, .payload = std::move(payload)};
}
Tcp pure_ack(std::uint32_t acked, std::uint32_t seq = 1000) {
  return {.seq = seq, .ack = acked};
}
Tcp syn_ack(std::uint32_t seq, std::uint32_t timestamp = 1, std::uint32_t acked = 2000) {
  return {.seq = seq, .ack = acked, .flags = syn | ack, .options = syn_options(timestamp, 9)};
}
Tcp fin_at(std::uint32_t seq, std::string payload = {}, std::uint32_t acked = 2000) {
  return {.seq = seq, .ack = acked, .flags = fin | ack, .payload = std::move(payload)};
}
Tcp reset_at(std::uint32_t seq) {
  return {.seq = seq, .ack = 2000, .flags = rst | ack};
}
Tcp from_port(Tcp segment, std::uint16_t peer_port) {
  segment.destination_port = peer_port;
  return segment;
}

// ---- Streams

TEST(Comparer, ReleasesWhatTheSecondaryHasSentToo) {
  ComparedPair pair;
  const Bytes frame = tcp(data(1000, "hello"));
  pair.primary(frame);
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_EQ(pair.comparer.waiting_frames(), 1u);
  pair.secondary(frame);
  const Frames out = pair.comparer.take_released();
  EXPECT_EQ(out.bytes, frame) << "untouched";
  EXPECT_EQ(out.count, 1u);
  EXPECT_EQ(pair.comparer.waiting_frames(), 0u);
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
  EXPECT_EQ(pair.mismatch(), "");
  EXPECT_EQ(pair.counters().compared_bytes, 5u);
  EXPECT_FALSE(pair.comparer.next_deadline());
}

TEST(Comparer, TheSecondaryMayBeAhead) {
  ComparedPair pair;
  pair.secondary(data(1000, "hello "));
  pair.secondary(data(1006, "world"));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.primary(data(1000, "hello "));
  pair.primary(data(1006, "world"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'hello ' ack 2000", "1006 'world' ack 2000"));
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
}

TEST(Comparer, SegmentationIsInvisible) {
  for (const bool secondary_first : {false, true}) {
    ComparedPair pair;
    const auto ours = [&] {
      pair.primary(data(1000, "abc"));
      pair.primary(data(1003, "defgh"));
      pair.primary(data(1008, "ij"));
    };
    const auto theirs = [&] {
      pair.secondary(data(1000, "abcd"));
      pair.secondary(data(1004, "e"));
      pair.secondary(data(1005, "fghij"));
    };
    if (secondary_first) theirs();
    ours();
    if (!secondary_first) theirs();
    std::string stream;
    for (const Bytes& frame : split(pair.comparer.take_released().bytes)) {
      stream += payload_of(frame, parsed(frame));
    }
    EXPECT_EQ(stream, "abcdefghij");
    EXPECT_EQ(pair.mismatch(), "");
    pair.expect_complete();
  }
}

TEST(Comparer, TheMatchedPartOfASegmentLeavesAtOnce) {
  ComparedPair pair;
  pair.primary(data(1000, "abcdef"));
  pair.secondary(data(1000, "abcd"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abcd' ack 2000"));
  EXPECT_EQ(pair.counters().split_frames, 1u);
  pair.secondary(data(1004, "ef"));
  EXPECT_THAT(pair.released(), ElementsAre("1004 'ef' ack 2000"));
  pair.expect_complete();
}

TEST(Comparer, TheMatchedPartLeavesAtOnceIfTheSecondaryIsAhead) {
  ComparedPair pair;
  pair.secondary(data(1000, "abcd"));
  pair.primary(data(1000, "abcdef"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abcd' ack 2000"));
  pair.secondary(data(1004, "ef"));
  EXPECT_THAT(pair.released(), ElementsAre("1004 'ef' ack 2000"));
  pair.expect_complete();
}

TEST(Comparer, ALargeSegmentIsNotCutWithoutNeed) {
  ComparedPair pair;
  const std::string payload = pattern(60'000);
  const Bytes large = tcp({.payload = payload, .gso_size = 1448}, {.checksum = Checksum::partial});
  pair.primary(large);
  Bytes small;
  for (std::uint32_t at = 0; at < payload.size(); at += 1448) {
    small += tcp(data(1000 + at, payload.substr(at, 1448)));
  }
  pair.secondary(small);
  EXPECT_EQ(pair.comparer.take_released().bytes, large);
  EXPECT_EQ(pair.counters().split_frames, 0u);
}

TEST(Comparer, ALargeSegmentWaitsForNoWindow) {
  // The secondary VM's window is full after 37 KB; it gets no further before the client has them.
  ComparedPair pair;
  const std::string payload = pattern(50'000);
  pair.primary(tcp({.payload = payload, .gso_size = 1448}, {.checksum = Checksum::partial}));
  pair.secondary(tcp({.payload = payload.substr(0, 37'000), .gso_size = 1448},
                     {.checksum = Checksum::partial}));
  const auto pieces = split(pair.comparer.take_released().bytes);
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(payload_of(pieces[0], parsed(pieces[0])), payload.substr(0, 37'000));
  EXPECT_EQ(reference_errors(pieces[0]), "");
}

TEST(Comparer, RetransmissionsOfReleasedBytesPass) {
  ComparedPair pair;
  pair.both(data(1000, "hello"));
  pair.released();
  pair.primary(data(1000, "hello"));
  pair.primary(data(1002, "ll"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'hello' ack 2000", "1002 'll' ack 2000"));
  pair.secondary(data(1000, "hello"));
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u) << "the secondary's are ignored";
}

TEST(Comparer, RetransmissionsPassWhileNewerDataWaits) {
  ComparedPair pair;
  pair.both(data(1000, "hello"));
  pair.primary(data(1005, "new"));
  pair.released();
  pair.primary(data(1000, "hello"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'hello' ack 2000"));
}

TEST(Comparer, OfARetransmissionOverTheFrontierOnlyTheNewPartWaits) {
  ComparedPair pair;
  pair.both(data(1000, "hello"));
  pair.released();
  pair.primary(data(1003, "lo wo"));
  EXPECT_THAT(pair.released(), ElementsAre("1003 'lo' ack 2000"));
  pair.secondary(data(1005, " wo"));
  EXPECT_THAT(pair.released(), ElementsAre("1005 ' wo' ack 2000"));
  pair.secondary(data(1008, "rld"));
  pair.primary(data(1006, "worl"));
  EXPECT_THAT(pair.released(), ElementsAre("1006 'worl' ack 2000"));
  pair.expect_complete();
}

TEST(Comparer, WhatWaitsTwiceLeavesTwiceInTheOrderOfCapture) {
  ComparedPair pair;
  pair.primary(data(1000, "first"));
  pair.primary(data(1005, "second"));
  pair.primary(data(1000, "first", 2001));  // sent again, with a newer timestamp
  pair.secondary(data(1000, "firstsecond", 2001));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'first' ack 2000", "1005 'second' ack 2000",
                                           "1000 'first' ack 2001"));
}

TEST(Comparer, WhatWaitsTwiceInARowLeavesTwiceInARow) {
  ComparedPair pair;
  pair.primary(data(1000, "first"));
  pair.primary(data(1000, "first", 2001));
  pair.primary(data(1005, "second"));
  pair.secondary(data(1000, "firstsecond", 2001));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'first' ack 2000", "1000 'first' ack 2001",
                                           "1005 'second' ack 2000"));
}

TEST(Comparer, OnlyWhatHasBeenMatchedWholeIsRemembered) {
  // Both frames wait; the first one is matched in two parts, handed over together.
  ComparedPair pair;
  pair.primary(data(1000, "abcd"));
  pair.primary(data(1004, "efgh"));
  pair.secondary(tcp(data(1000, "ab")) + tcp(data(1002, "cd")));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abcd' ack 2000"));
  pair.secondary(tcp(data(1004, "e")) + tcp(data(1005, "f")));
  EXPECT_THAT(pair.released(), ElementsAre("1004 'ef' ack 2000"));
  pair.secondary(tcp(data(1006, "g")) + tcp(data(1007, "h")));
  EXPECT_THAT(pair.released(), ElementsAre("1006 'gh' ack 2000"));
  pair.expect_complete();
}

TEST(Comparer, WhatOverlapsLeavesWithoutAGap) {
  ComparedPair pair;
  pair.both(data(999, "x"));
  pair.released();
  pair.primary(data(1004, "efghij"));  // behind a gap
  pair.primary(data(1000, "abcdef"));  // which this fills
  pair.secondary(tcp(data(1000, "abcde")) + tcp(data(1005, "fghij")));
  EXPECT_THAT(pair.released(),
              ElementsAre("1000 'abcde' ack 2000", "1004 'efghij' ack 2000", "1005 'f' ack 2000"));
  pair.expect_complete();
}

TEST(Comparer, ARetransmissionDoesNotLeaveBeforeWhatItRepeats) {
  ComparedPair pair;
  pair.both(data(999, "x"));
  pair.released();
  pair.secondary(data(1000, "abcde"));
  Bytes batch = tcp(data(1004, "efghij"));
  batch += tcp(data(1000, "abcdef"));
  batch += tcp(data(1000, "XYZ"));  // nobody has compared it
  pair.primary(batch);
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abcde' ack 2000", "1000 'XYZ' ack 2000"));
}

TEST(Comparer, WhatTheSecondarySendsTwiceIsKeptOnce) {
  ComparedPair pair;
  pair.primary(data(1000, "x"));
  pair.secondary(data(1001, std::string(300, 'a')));
  pair.secondary(data(1401, std::string(300, 'c')));
  const std::size_t waiting = pair.comparer.waiting_bytes();
  for (int i = 0; i < 100; ++i) {
    pair.secondary(data(1001, std::string(300, 'a')));
    pair.secondary(data(1101, std::string(100, 'a')));
    pair.secondary(data(1501, std::string(200, 'c')));
  }
  EXPECT_EQ(pair.comparer.waiting_bytes(), waiting);
}

TEST(Comparer, SegmentsBehindAGapWaitUntilItIsFilled) {
  ComparedPair pair;
  pair.both(data(1000, "a"));
  pair.released();
  pair.primary(data(1003, "d"));
  pair.primary(data(1002, "c"));
  pair.secondary(data(1002, "cd"));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(data(1001, "b"));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.primary(data(1001, "b"));
  EXPECT_THAT(pair.released(),
              ElementsAre("1001 'b' ack 2000", "1002 'c' ack 2000", "1003 'd' ack 2000"));
  EXPECT_EQ(pair.mismatch(), "");
}

TEST(Comparer, TheSecondarysSegmentsMayComeInAnyOrderAndOverlap) {
  ComparedPair pair;
  pair.secondary(data(1004, "ef"));
  pair.secondary(data(1000, "abc"));
  pair.secondary(data(1002, "cde"));
  pair.secondary(data(1005, "fgh"));
  pair.primary(data(1000, "abcdefgh"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abcdefgh' ack 2000"));
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
}

TEST(Comparer, AGapOfTheSecondarysIsFilledHoweverMuchIsBehindIt) {
  ComparedPair pair;
  pair.primary(data(1000, "x"));
  Bytes behind;
  for (std::uint32_t i = 0; i < 10'000; ++i) behind += tcp(data(1010 + i, "x"));
  pair.secondary(behind);
  pair.secondary(data(1005, "xxxxx"));
  pair.secondary(data(1000, "xxxxx"));
  EXPECT_EQ(pair.counters().secondary_dropped_frames, 0u);
  pair.primary(data(1001, std::string(10'009, 'x')));
  EXPECT_EQ(pair.released().size(), 2u);
  EXPECT_EQ(pair.comparer.waiting_frames(), 0u);
}

TEST(Comparer, StreamsWrapAround) {
  ComparedPair pair;
  pair.both(syn_ack(0xfffffffd));
  pair.primary(data(0xfffffffe, "abcd"));
  pair.primary(data(2, "ef"));
  pair.secondary(data(0xfffffffe, "abcde"));
  pair.secondary(data(3, "f"));
  EXPECT_THAT(pair.released(), ElementsAre(HasSubstr("SYN"), "4294967294 'abcd' ack 2000",
                                           "2 'e' ack 2000", "3 'f' ack 2000"));
  pair.primary(data(0xfffffffe, "abcd"));
  EXPECT_THAT(pair.released(), ElementsAre("4294967294 'abcd' ack 2000")) << "sent again";
}

TEST(Comparer, AFlowThatIsNewHereBeginsWithThePrimarysFirstSegment) {
  ComparedPair pair;
  pair.secondary(data(990, "0123456789abc"));  // begins before it: sent again
  pair.primary(data(1000, "abc"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abc' ack 2000"));
  pair.secondary(from_port(data(980, "long ago"), 2));
  pair.secondary(from_port(data(990, "0123456789abc"), 2));
  pair.primary(from_port(data(1000, "abc"), 2));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abc' ack 2000"));
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
}

TEST(Comparer, ARetransmissionInAFlowThatIsNewHereWaitsForAnyAcknowledgement) {
  ComparedPair pair;
  pair.primary(data(1000, "new"));
  pair.primary(data(990, "old", 1999));
  EXPECT_THAT(pair.released(), IsEmpty()) << "nobody knows what the secondary has acknowledged";
  pair.secondary(data(1000, "new", 1990));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'new' ack 1990", "990 'old' ack 1990"));
}

TEST(Comparer, AKeepaliveIsNoBeginning) {
  ComparedPair pair;
  pair.primary(pure_ack(2000, 999));
  pair.secondary(pure_ack(2000, 999));
  EXPECT_THAT(pair.released(), ElementsAre("999 ack 2000"));
  pair.both(data(1000, "abc"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abc' ack 2000"));
}

TEST(Comparer, FlowsDoNotWaitForEachOther) {
  ComparedPair pair;
  pair.primary(from_port(data(1000, "slow"), 1));
  pair.primary(from_port(data(1000, "quick"), 2));
  pair.secondary(from_port(data(1000, "quick"), 2));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'quick' ack 2000"));
}

TEST(Comparer, IgnoresWhatNeedNotBeEqual) {
  ComparedPair pair;
  const Bytes ours = tcp({.window = 100, .options = timestamp_option(5, 6), .payload = "hello"},
                         {.ip_id = 1, .ttl = 64, .tos = 0, .checksum = Checksum::partial});
  const Bytes theirs = tcp(
      {.flags = ack | psh, .window = 200, .options = timestamp_option(7, 8), .payload = "hello"},
      {.ip_id = 2, .ttl = 63, .tos = 8, .checksum = Checksum::wrong});
  pair.primary(ours);
  pair.secondary(theirs);
  EXPECT_EQ(pair.comparer.take_released().bytes, ours);
}

// ---- Differences

TEST(Comparer, FindsTheFirstByteThatDiffersAndReleasesAllBeforeIt) {
  ComparedPair pair;
  pair.both(syn_ack(999));
  pair.both(data(1000, "0123456789"));
  pair.released();
  pair.primary(data(1010, "abcdef"));
  pair.primary(data(1016, "later"));
  pair.secondary(data(1010, "abcXef"));
  EXPECT_THAT(pair.released(), ElementsAre("1010 'abc' ack 2000"));
  const auto mismatch = pair.comparer.take_mismatch();
  ASSERT_TRUE(mismatch);
  EXPECT_EQ(mismatch->reason, Reason::payload);
  EXPECT_EQ(mismatch->position, 13u);
  EXPECT_EQ(mismatch->detail, "at byte 13: 64 65 66 here, 58 65 66 there");
  EXPECT_EQ(to_string(mismatch->flow), "tcp 10.0.0.2:6379 > 10.0.0.1:40000");
  EXPECT_FALSE(pair.comparer.take_mismatch()) << "once";
  EXPECT_EQ(pair.mismatches(Reason::payload), 1u);
}

TEST(Comparer, NothingLeavesAFlowThatDiffersBeforeTheCommit) {
  ComparedPair pair;
  pair.primary(data(1000, "abc"));
  pair.secondary(data(1000, "abX"));
  pair.released();
  pair.both(data(1003, "later"));
  pair.both(pure_ack(2500, 1008));
  pair.primary(data(1000, "ab"));
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_EQ(pair.comparer.waiting_frames(), 4u);
  pair.both(from_port(data(1, "other"), 9));
  EXPECT_THAT(pair.released(), ElementsAre("1 'other' ack 2000")) << "other flows go on";
  EXPECT_THAT(pair.committed(), ElementsAre("1002 'c' ack 2000", "1003 'later' ack 2000",
                                            "1008 ack 2500", "1000 'ab' ack 2000"));
  pair.expect_complete();
  pair.both(data(1008, "next epoch", 2500));
  EXPECT_THAT(pair.released(), ElementsAre("1008 'next epoch' ack 2500"));
}

TEST(Comparer, ADifferenceIsFoundWhicheverVmComesFirst) {
  ComparedPair pair;
  pair.secondary(data(1000, "abXdef"));
  pair.primary(data(1000, "abc"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'ab' ack 2000"));
  EXPECT_EQ(pair.mismatch(), "payload: at sequence number 1002: 63 here, 58 64 65 66 there");
  EXPECT_THAT(pair.committed(), ElementsAre("1002 'c' ack 2000"));
}

TEST(Comparer, APrimaryThatContradictsItselfDiffers) {
  ComparedPair pair;
  pair.primary(data(1000, "abcdef"));
  pair.primary(data(1002, "cXef"));
  pair.secondary(data(1000, "abcdef"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abc' ack 2000"));
  EXPECT_THAT(pair.mismatch(), HasSubstr("at sequence number 1003: sent twice"));

  ComparedPair behind_gap;
  behind_gap.both(data(999, "x"));
  behind_gap.primary(data(1004, "Xf"));
  behind_gap.primary(data(1000, "abcdef"));
  behind_gap.released();
  behind_gap.secondary(data(1000, "abcdef"));
  EXPECT_THAT(behind_gap.released(), ElementsAre("1000 'abcd' ack 2000"));
  EXPECT_THAT(behind_gap.mismatch(), HasSubstr("at sequence number 1004: sent twice"));
}

TEST(Comparer, EachFlowThatDiffersIsCountedOnceAnEpoch) {
  ComparedPair pair;
  for (const std::uint16_t port : {std::uint16_t{1}, std::uint16_t{2}}) {
    pair.primary(from_port(data(1000, "abc"), port));
    pair.secondary(from_port(data(1000, "xyz"), port));
    pair.primary(from_port(data(1003, "abc"), port));
    pair.secondary(from_port(data(1003, "xyz"), port));
  }
  EXPECT_EQ(pair.mismatches(Reason::payload), 2u);
  EXPECT_NE(pair.mismatch(), "");
  pair.committed();
  EXPECT_EQ(pair.mismatch(), "");
  pair.primary(from_port(data(1006, "abc"), 1));
  pair.secondary(from_port(data(1006, "xyz"), 1));
  EXPECT_EQ(pair.mismatches(Reason::payload), 3u);
  EXPECT_NE(pair.mismatch(), "") << "the first of another epoch";
}

// ---- Epochs

TEST(Comparer, TheCommitTakesWhatHasNotLeftInTheOrderOfCapture) {
  ComparedPair pair;
  pair.primary(from_port(data(1000, "one"), 1));
  pair.primary(from_port(data(1000, "two"), 2));
  pair.primary(udp({.payload = "three"}));
  pair.primary(from_port(data(1003, "four"), 1));
  pair.primary(arp());
  pair.secondary(from_port(data(1000, "tw"), 2));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'tw' ack 2000"));
  EXPECT_THAT(pair.committed(),
              ElementsAre("1000 'one' ack 2000", "1002 'o' ack 2000", "udp 'three'",
                          "1003 'four' ack 2000", StartsWith("link")));
  EXPECT_EQ(pair.comparer.waiting_frames(), 0u);
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
  EXPECT_FALSE(pair.comparer.next_deadline());
  EXPECT_EQ(pair.counters().committed_frames, 5u);
  pair.expect_complete();
}

TEST(Comparer, AfterTheCommitStreamsGoOnWhereItLeftThem) {
  ComparedPair pair;
  pair.primary(data(1000, "abc", 2500));
  pair.committed();
  pair.primary(data(1000, "abc", 2500));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abc' ack 2500")) << "sent again";
  pair.primary(pure_ack(2500, 1003));
  EXPECT_THAT(pair.released(), ElementsAre("1003 ack 2500"));
  pair.secondary(data(1000, "abcdef", 2500));
  pair.primary(data(1003, "def", 2500));
  EXPECT_THAT(pair.released(), ElementsAre("1003 'def' ack 2500"));
}

TEST(Comparer, AStaleAcknowledgementTakesNothingBack) {
  ComparedPair pair;
  pair.primary(pure_ack(2500));
  pair.primary(pure_ack(2400));
  pair.committed();
  pair.secondary(pure_ack(2400));
  pair.primary(pure_ack(2400));
  pair.primary(pure_ack(2500));
  EXPECT_THAT(pair.released(), ElementsAre("1000 ack 2400", "1000 ack 2500"));
}

TEST(Comparer, ASynSentAgainIsNoNewConnectionForTheCommit) {
  ComparedPair pair;
  pair.both(syn_ack(999));
  pair.both(data(1000, "abc"));
  pair.primary(data(1003, "d"));
  pair.secondary(data(1003, "X"));
  pair.primary(syn_ack(999));  // held, for the flow differs
  pair.released();
  pair.committed();
  pair.both(data(1004, "e"));
  EXPECT_THAT(pair.released(), ElementsAre("1004 'e' ack 2000"));
}

TEST(Comparer, ADifferenceThatNobodyTookIsForgottenWithItsEpoch) {
  ComparedPair pair;
  pair.primary(data(1000, "a"));
  pair.secondary(data(1000, "b"));
  pair.committed();
  EXPECT_EQ(pair.mismatch(), "");
}

TEST(Comparer, WhatTheSecondarySentIsForgottenWithItsEpoch) {
  ComparedPair pair;
  pair.both(data(1000, "a"));
  pair.secondary(data(1001, "bc", 2600));
  pair.secondary(udp({.payload = "old"}));
  pair.released();
  pair.committed();
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
  EXPECT_EQ(pair.counters().secondary_forgotten_frames, 2u);
  pair.primary(data(1001, "bc", 2600));
  pair.primary(udp({.payload = "old"}));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(data(1001, "bc"));
  EXPECT_THAT(pair.released(), ElementsAre("1001 'bc' ack 2000"))
      << "nor is the old epoch's acknowledgement valid";
}

TEST(Comparer, FlowsThatOnlyTheSecondaryKnowsAreForgottenWithTheirEpoch) {
  ComparedPair pair;
  pair.secondary(data(1000, "only there"));
  pair.secondary(udp());
  pair.both(from_port(data(1000, "both"), 1));
  EXPECT_EQ(pair.comparer.flows(), 3u);
  pair.secondary(pure_ack(1));
  pair.committed();
  EXPECT_EQ(pair.comparer.flows(), 1u);
  pair.both(data(1000, "only there"));
  EXPECT_EQ(pair.comparer.flows(), 2u);
  EXPECT_EQ(pair.released().size(), 2u);
}

TEST(Comparer, ForgottenFlowsBeginAnew) {
  ComparedPair pair;
  pair.both(data(1000, "abc"));
  pair.released();
  pair.comparer.forget_flows();
  EXPECT_EQ(pair.comparer.flows(), 0u);
  pair.both(data(500'000, "much later", 9000));
  EXPECT_THAT(pair.released(), ElementsAre("500000 'much later' ack 9000"));
}

// ---- Acknowledgements

TEST(Comparer, DataLeavesWithTheLowerAcknowledgementAndTheRestFollows) {
  ComparedPair pair;
  pair.primary(data(1000, "hello", 2300));
  pair.secondary(data(1000, "hello", 2100));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'hello' ack 2100"));
  pair.secondary(pure_ack(2200, 1005));
  EXPECT_THAT(pair.released(), ElementsAre("1005 ack 2200"));
  pair.secondary(pure_ack(2400, 1005));
  EXPECT_THAT(pair.released(), ElementsAre("1005 ack 2300")) << "not more than the primary's";
  pair.secondary(pure_ack(2500, 1005));
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_FALSE(pair.comparer.next_deadline());
  pair.expect_complete();
}

TEST(Comparer, AnOwedAcknowledgementHasThePrimarysNewestWindowAndOptions) {
  ComparedPair pair;
  pair.primary({.ack = 2300, .window = 10, .payload = "a"});
  pair.secondary(data(1000, "a", 2100));
  pair.primary(
      {.seq = 1001, .ack = 2400, .window = 777, .options = timestamp_option(5, 6), .payload = "b"});
  pair.secondary(data(1001, "b", 2100));
  pair.released();
  pair.secondary(pure_ack(2500, 1002));
  const auto out = split(pair.comparer.take_released().bytes);
  ASSERT_EQ(out.size(), 1u);
  const Packet packet = parsed(out[0]);
  EXPECT_EQ(words(out[0]), "1002 ack 2400");
  EXPECT_EQ(packet.window, 777);
  ASSERT_TRUE(timestamps(out[0], packet));
  EXPECT_EQ(timestamps(out[0], packet)->value, 5u);
}

TEST(Comparer, AStaleAcknowledgementDoesNotLowerWhatIsOwed) {
  ComparedPair pair;
  pair.primary(data(1000, "a", 2300));
  pair.secondary(data(1000, "a", 2100));
  pair.primary(data(1000, "a", 2200));
  pair.released();
  pair.secondary(pure_ack(2400, 1001));
  EXPECT_THAT(pair.released(), ElementsAre("1001 ack 2300"));
}

TEST(Comparer, WhatIsOwedTimesOutThoughMoreAndMoreIsOwed) {
  ComparedPair pair;
  pair.enter();
  pair.secondary(data(1000, std::string(100, 'x'), 2100));
  for (std::uint32_t i = 0; i < 25; ++i) {
    EXPECT_EQ(pair.mismatch(), "") << i;
    pair.primary(data(1000 + i, "x", 2300 + i));
    pair.pass(10ms);
  }
  EXPECT_THAT(pair.mismatch(), StartsWith("timeout: the primary VM's acknowledgement"));
}

TEST(Comparer, LaterDataPaysWhatIsOwed) {
  ComparedPair pair;
  pair.primary(data(1000, "a", 2300));
  pair.secondary(data(1000, "a", 2100));
  pair.primary(data(1001, "b", 2300));
  pair.secondary(data(1001, "b", 2300));
  pair.secondary(pure_ack(2400, 1002));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'a' ack 2100", "1001 'b' ack 2300"));
  EXPECT_FALSE(pair.comparer.next_deadline());
}

TEST(Comparer, DataNeverWaitsForItsAcknowledgementOnly) {
  ComparedPair pair;
  pair.both(data(1000, "a", 2000));
  pair.secondary(data(1001, "b", 2000));
  pair.released();
  pair.primary(data(1001, "b", 9000));
  EXPECT_THAT(pair.released(), ElementsAre("1001 'b' ack 2000"));
}

TEST(Comparer, OnlyAsMuchIsAcknowledgedAsBothHave) {
  ComparedPair pair;
  pair.primary(pure_ack(2100));
  pair.primary(pure_ack(2200));
  EXPECT_THAT(pair.released(), IsEmpty()) << "nothing is known of the secondary";
  pair.secondary(pure_ack(2150));
  EXPECT_THAT(pair.released(), ElementsAre("1000 ack 2100", "1000 ack 2150"));
  pair.secondary(pure_ack(2200));
  EXPECT_THAT(pair.released(), ElementsAre("1000 ack 2200"));
  pair.secondary(pure_ack(2300));
  pair.secondary(pure_ack(2250));  // stale
  pair.primary(pure_ack(2400));
  EXPECT_THAT(pair.released(), ElementsAre("1000 ack 2300")) << "at once, in part";
  pair.secondary(pure_ack(2400));
  EXPECT_THAT(pair.released(), ElementsAre("1000 ack 2400"));
  pair.expect_complete();
}

TEST(Comparer, AcknowledgementsLeaveInTheOrderOfCapture) {
  ComparedPair pair;
  pair.both(data(999, "x", 2000));
  pair.released();
  pair.primary(pure_ack(2100, 1000));
  pair.primary(data(1000, "abc", 2100));
  pair.primary(pure_ack(2200, 1003));
  pair.secondary(data(1000, "abc", 2200));
  EXPECT_THAT(pair.released(),
              ElementsAre("1000 ack 2100", "1000 'abc' ack 2100", "1003 ack 2200"));
}

TEST(Comparer, AnAcknowledgementInPartStandsWhereTheClientExpectsTheNextByte) {
  ComparedPair pair;
  pair.both(data(1000, "x", 2000));
  pair.released();
  pair.primary(pure_ack(2300, 1000));  // a keepalive's sequence number
  pair.secondary(pure_ack(2200, 1001));
  EXPECT_THAT(pair.released(), ElementsAre("1001 ack 2200"));
}

TEST(Comparer, AStaleAcknowledgementThatWaitsDoesNotHideANewerOne) {
  ComparedPair pair;
  pair.both(data(1000, "x", 2000));
  pair.released();
  pair.primary(pure_ack(2300, 1001));
  pair.primary(pure_ack(2150, 1001));
  pair.secondary(pure_ack(2200, 1001));
  EXPECT_THAT(pair.released(), ElementsAre("1001 ack 2200"));
  pair.secondary(pure_ack(2250, 1001));
  EXPECT_THAT(pair.released(), ElementsAre("1001 ack 2250"));
  pair.secondary(pure_ack(2300, 1001));
  EXPECT_THAT(pair.released(), ElementsAre("1001 ack 2300", "1001 ack 2150"));
}

TEST(Comparer, DuplicateAcknowledgementsPassUnchanged) {
  ComparedPair pair;
  pair.both(pure_ack(2100));
  pair.released();
  const Bytes duplicate = tcp({.ack = 2100, .options = sack_option({{3000, 3100}})});
  pair.primary(duplicate + duplicate + duplicate);
  EXPECT_EQ(pair.comparer.take_released().bytes, duplicate + duplicate + duplicate);
}

TEST(Comparer, TheSecondarysDuplicatesAndStaleAcknowledgementsCauseNothing) {
  ComparedPair pair;
  pair.both(pure_ack(2100));
  pair.released();
  pair.secondary(pure_ack(2100));
  pair.secondary(pure_ack(1500));
  pair.secondary(pure_ack(2100));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.primary(pure_ack(2100));
  EXPECT_THAT(pair.released(), ElementsAre("1000 ack 2100"));
  EXPECT_FALSE(pair.comparer.next_deadline());
}

TEST(Comparer, APureAcknowledgementPassesDataThatWaits) {
  ComparedPair pair;
  pair.both(data(1000, "a", 2000));
  pair.released();
  pair.primary(data(1001, "waits", 2000));
  pair.primary(pure_ack(2100, 1006));
  pair.secondary(pure_ack(2100, 1001));
  EXPECT_THAT(pair.released(), ElementsAre("1001 ack 2100"))
      << "with the sequence number up to which the client has seen the stream";
}

TEST(Comparer, WhatWasOvertakenDoesNotLeaveWithAnOlderTimestamp) {
  // The client would drop it (PAWS).
  const auto at_time = [](Tcp segment, std::uint32_t time) {
    segment.options = timestamp_option(time, 9);
    return segment;
  };
  const auto times = [](const Frames& frames) {
    std::vector<std::uint32_t> all;
    for (const Bytes& frame : split(frames.bytes)) {
      EXPECT_EQ(reference_errors(frame), "");
      const Packet packet = parsed(frame);
      const auto found = timestamps(frame, packet);
      all.push_back(found ? found->value : 0);
    }
    return all;
  };
  ComparedPair pair;
  pair.both(at_time(data(1000, "a"), 90));
  EXPECT_THAT(times(pair.comparer.take_released()), ElementsAre(90));
  pair.primary(at_time(data(1001, "waits"), 100));
  pair.primary(at_time(data(1006, "waits longer"), 101));
  pair.secondary(pure_ack(2100, 1001));
  pair.primary(at_time(pure_ack(2100, 1018), 300));
  pair.primary(at_time(data(1000, "a"), 301));  // sent again
  EXPECT_THAT(times(pair.comparer.take_released()), ElementsAre(300, 301));
  pair.secondary(data(1001, "waits", 2100));
  EXPECT_THAT(times(pair.comparer.take_released()), ElementsAre(301));
  EXPECT_THAT(times(pair.comparer.close_epoch()), ElementsAre(301));
  pair.both(at_time(data(1018, "x", 2100), 302));
  EXPECT_THAT(times(pair.comparer.take_released()), ElementsAre(302));
}

TEST(Comparer, ANewConnectionKeepsItsOwnTimestamps) {
  const auto at_time = [](Tcp segment, std::uint32_t time) {
    segment.options = timestamp_option(time, 9);
    return segment;
  };
  for (const bool commit : {false, true}) {
    ComparedPair pair;
    pair.both(at_time(data(1000, "a"), 100));
    pair.primary(at_time(data(1001, "b"), 100));
    pair.primary(at_time(pure_ack(2000, 1002), 5000));
    pair.released();
    Tcp opening = at_time(syn_ack(9000), 77);
    pair.primary(opening);
    if (!commit) pair.secondary(tcp(data(1001, "b")) + tcp(opening));
    const Frames out = commit ? pair.comparer.close_epoch() : pair.comparer.take_released();
    std::vector<std::uint32_t> times;
    for (const Bytes& frame : split(out.bytes)) {
      times.push_back(timestamps(frame, parsed(frame))->value);
    }
    EXPECT_THAT(times, ElementsAre(5000, 77)) << commit;
  }
}

TEST(Comparer, WhatIsOwedDoesNotLeaveWithAnOlderTimestamp) {
  const auto at_time = [](Tcp segment, std::uint32_t time) {
    segment.options = timestamp_option(time, 9);
    return segment;
  };
  ComparedPair pair;
  pair.primary(at_time(data(1000, "a", 2300), 100));
  pair.secondary(data(1000, "a", 2100));
  pair.primary(at_time(pure_ack(2100, 1001), 200));
  pair.released();
  pair.secondary(pure_ack(2300, 1001));
  const auto out = split(pair.comparer.take_released().bytes);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(timestamps(out[0], parsed(out[0]))->value, 200u);
}

TEST(Comparer, ARetransmissionThatWaitsMayBeOvertakenToo) {
  const auto at_time = [](Tcp segment, std::uint32_t time) {
    segment.options = timestamp_option(time, 9);
    return segment;
  };
  ComparedPair pair;
  pair.both(at_time(data(1000, "a"), 90));
  pair.primary(at_time(data(1001, "b"), 100));
  pair.primary(at_time(data(1000, "ab"), 101));
  pair.primary(at_time(pure_ack(2000, 1002), 200));
  pair.released();
  pair.secondary(data(1001, "b"));
  for (const Bytes& frame : split(pair.comparer.take_released().bytes)) {
    EXPECT_EQ(timestamps(frame, parsed(frame))->value, 200u);
  }
  // Only what fills the gap is left to be overtaken.
  pair.primary(at_time(data(1010, "k"), 300));
  pair.primary(at_time(data(1003, "d"), 301));
  pair.primary(at_time(data(1002, "c"), 302));
  pair.secondary(data(1002, "c"));
  pair.primary(at_time(pure_ack(2000, 1011), 400));
  pair.released();
  pair.secondary(data(1003, "d"));
  auto out = split(pair.comparer.take_released().bytes);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(timestamps(out[0], parsed(out[0]))->value, 400u);
  // Or what overlaps.
  ComparedPair overlapping;
  overlapping.primary(at_time(data(1000, "abc"), 500));
  overlapping.primary(at_time(data(1002, "cde"), 501));
  overlapping.secondary(data(1000, "abc"));
  overlapping.primary(at_time(pure_ack(2000, 1005), 600));
  overlapping.comparer.take_released();
  overlapping.secondary(data(1003, "de"));
  out = split(overlapping.comparer.take_released().bytes);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(timestamps(out[0], parsed(out[0]))->value, 600u);
}

TEST(Comparer, WindowUpdatesPass) {
  ComparedPair pair;
  pair.both(pure_ack(2100));
  pair.released();
  const Bytes update = tcp({.ack = 2100, .window = 9000});
  pair.primary(update);
  EXPECT_EQ(pair.comparer.take_released().bytes, update);
}

TEST(Comparer, AnAcknowledgementThatTheSecondaryDoesNotGiveTimesOut) {
  ComparedPair pair;
  pair.enter();
  pair.primary(data(1000, "hello", 2300));
  pair.secondary(data(1000, "hello", 2100));
  pair.released();
  pair.pass(249ms);
  EXPECT_EQ(pair.mismatch(), "");
  pair.pass(1ms);
  EXPECT_EQ(pair.mismatch(),
            "timeout: the primary VM's acknowledgement of 2300 has waited for 250 ms");
  EXPECT_THAT(pair.committed(), ElementsAre("1005 ack 2300"));
  pair.expect_complete();
}

TEST(Comparer, ProgressOfTheSecondaryRestartsTheWaitForWhatIsOwed) {
  ComparedPair pair;
  pair.enter();
  for (std::uint32_t i = 0; i < 20; ++i) {
    // It always lags behind, and always comes on.
    pair.primary(data(1000 + i, "x", 2300 + 100 * i));
    pair.secondary(data(1000 + i, "x", 2100 + 100 * i));
    pair.pass(100ms);
  }
  EXPECT_EQ(pair.mismatch(), "");
}

// ---- SYN

TEST(Comparer, ASynLeavesWhenBothHaveSentIt) {
  for (const bool secondary_first : {false, true}) {
    ComparedPair pair;
    const Bytes ours = tcp(syn_ack(5000, 111));
    const Bytes theirs = tcp(syn_ack(5000, 222));
    if (secondary_first) pair.secondary(theirs);
    pair.primary(ours);
    if (!secondary_first) {
      EXPECT_THAT(pair.released(), IsEmpty());
      pair.secondary(theirs);
    }
    EXPECT_EQ(pair.comparer.take_released().bytes, ours) << "timestamps need not be equal";
    EXPECT_EQ(pair.mismatch(), "");
    pair.both(data(5001, "abc"));
    EXPECT_THAT(pair.released(), ElementsAre("5001 'abc' ack 2000"));
  }
}

TEST(Comparer, SynsThatDifferAreADifferentEvent) {
  const auto difference = [](Tcp theirs) {
    ComparedPair pair;
    pair.primary(syn_ack(5000));
    pair.secondary(theirs);
    EXPECT_THAT(pair.released(), IsEmpty());
    EXPECT_EQ(pair.mismatches(Reason::event), 1u);
    EXPECT_THAT(pair.committed(), ElementsAre("SYN 5000 ack 2000"));
    return pair.mismatch();
  };
  const auto first = [](Tcp theirs) {
    ComparedPair pair;
    pair.primary(syn_ack(5000));
    pair.secondary(theirs);
    return pair.mismatch();
  };
  EXPECT_EQ(first(syn_ack(5001)), "event: SYN: sequence number 5000 here, 5001 there");
  EXPECT_EQ(first(syn_ack(5000, 1, 2001)), "event: SYN: acknowledgement 2000 here, 2001 there");
  Tcp options = syn_ack(5000);
  options.options = mss_option(1200);
  EXPECT_EQ(first(options), "event: SYN: other options");
  Tcp flags = syn_ack(5000);
  flags.flags = syn;
  EXPECT_THAT(first(flags), StartsWith("event: SYN: flags"));
  Tcp payload = syn_ack(5000);
  payload.payload = "x";
  EXPECT_EQ(first(payload), "event: SYN: payload size 0 here, 1 there");
  difference(syn_ack(5001));
  difference(options);
}

TEST(Comparer, ASynSentAgainPassesOnceItWasReleased) {
  ComparedPair pair;
  pair.primary(syn_ack(5000));
  pair.primary(syn_ack(5000));
  pair.secondary(syn_ack(5000));
  EXPECT_THAT(pair.released(), ElementsAre("SYN 5000 ack 2000", "SYN 5000 ack 2000"));
  pair.primary(syn_ack(5000));
  EXPECT_THAT(pair.released(), ElementsAre("SYN 5000 ack 2000"));
  pair.committed();
  pair.primary(syn_ack(5000));
  EXPECT_THAT(pair.released(), ElementsAre("SYN 5000 ack 2000"));
  pair.secondary(syn_ack(5000));
  EXPECT_FALSE(pair.comparer.next_deadline());
}

TEST(Comparer, SynsAreHandedOverAsReferencesWhenTheyAreCaptured) {
  ComparedPair pair;
  const Bytes first = tcp(syn_ack(5000));
  const Bytes second = tcp(from_port({.seq = 7, .flags = syn}, 9));
  pair.primary(first + tcp(from_port(data(1, "x"), 3)) + second);
  const Frames references = pair.comparer.take_references();
  EXPECT_EQ(references.bytes, first + second);
  EXPECT_EQ(references.count, 2u);
  EXPECT_EQ(pair.comparer.take_references().count, 0u);
  pair.secondary(first);
  EXPECT_EQ(pair.comparer.take_references().count, 0u) << "the primary's only";
}

TEST(Comparer, AConnectionThatTheGuestOpensIsComparedFromItsSyn) {
  ComparedPair pair;
  pair.both(Tcp{.seq = 5000, .ack = 0, .flags = syn, .options = syn_options(1)});
  EXPECT_THAT(pair.released(), ElementsAre("SYN 5000"));
  pair.primary(pure_ack(9001, 5001));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(pure_ack(9001, 5001));
  EXPECT_THAT(pair.released(), ElementsAre("5001 ack 9001"));
  pair.both(data(5001, "hi", 9001));
  EXPECT_THAT(pair.released(), ElementsAre("5001 'hi' ack 9001"));
}

TEST(Comparer, DataBehindASynThatWaitsDoNotMoveTheConnectionsBeginning) {
  ComparedPair pair;
  pair.primary(syn_ack(5000));
  pair.primary(data(5101, "later"));  // a gap behind the SYN
  pair.primary(data(5001, "first"));
  EXPECT_THAT(pair.released(), IsEmpty()) << "nothing of it has come from the secondary VM";
  pair.secondary(syn_ack(5000));
  EXPECT_THAT(pair.released(), ElementsAre("SYN 5000 ack 2000"));
  pair.secondary(data(5001, "first"));
  EXPECT_THAT(pair.released(), ElementsAre("5001 'first' ack 2000"));
}

TEST(Comparer, ANewConnectionOfAKnownFlowBeginsAnew) {
  for (const bool secondary_first : {false, true}) {
    ComparedPair pair;
    pair.both(data(1000, "old"));
    pair.both(fin_at(1003));
    pair.released();
    // Lower and higher sequence numbers than those before: a new stream all the same.
    for (const std::uint32_t isn : {500u, 3'000'000'000u, 900u}) {
      const Bytes frames = tcp(syn_ack(isn, 1, 77)) + tcp(data(isn + 1, "new", 77));
      if (secondary_first) pair.secondary(frames);
      pair.primary(frames);
      if (!secondary_first) pair.secondary(frames);
      EXPECT_EQ(pair.comparer.take_released().bytes, frames);
      EXPECT_EQ(pair.mismatch(), "");
    }
  }
}

TEST(Comparer, SynsMayCarryPayload) {
  ComparedPair pair;
  Tcp opening = syn_ack(5000);
  opening.payload = "fast";
  pair.both(opening);
  pair.both(data(5005, "er"));
  EXPECT_THAT(pair.released(), ElementsAre("SYN 5000 'fast' ack 2000", "5005 'er' ack 2000"));
  Tcp other = opening;
  other.payload = "fasT";
  pair.primary(from_port(opening, 2));
  pair.secondary(from_port(other, 2));
  EXPECT_THAT(pair.mismatch(), StartsWith("event: SYN: payload at byte 3"));
}

TEST(Comparer, ANewConnectionKeepsNothingOfTheOldOne) {
  ComparedPair pair;
  pair.both(data(1000, "old", 5000));
  pair.secondary(data(1003, "unmatched", 5000));
  pair.both(syn_ack(100, 1, 77));
  pair.released();
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
  pair.primary(pure_ack(300, 101));
  EXPECT_THAT(pair.released(), IsEmpty()) << "acknowledged in the old connection only";
  pair.secondary(pure_ack(300, 101));
  EXPECT_THAT(pair.released(), ElementsAre("101 ack 300"));
}

TEST(Comparer, TheOldConnectionsRestIsNotMistakenForTheNewOnes) {
  ComparedPair pair;
  pair.both(data(100'000, "old"));
  pair.released();
  pair.secondary(syn_ack(500'000, 1, 3000));  // the secondary has begun anew
  pair.secondary(data(500'001, "unseen"));
  pair.primary(data(100'003, "not compared"));
  pair.primary(pure_ack(2000, 100'003));
  pair.primary(pure_ack(2500, 100'003));
  EXPECT_THAT(pair.released(), ElementsAre("100003 ack 2000"))
      << "what it acknowledges now, it acknowledges in the new connection";
  pair.primary(syn_ack(500'000, 1, 3000));
  EXPECT_THAT(pair.released(), IsEmpty()) << "what was sent before it has to leave first";
  EXPECT_THAT(pair.committed(), ElementsAre("100003 'not compared' ack 2000", "100003 ack 2500",
                                            "SYN 500000 ack 3000"));
}

// ---- FIN

TEST(Comparer, AFinLeavesWhenBothStreamsEndThere) {
  for (const bool secondary_first : {false, true}) {
    ComparedPair pair;
    if (secondary_first) pair.secondary(fin_at(1000, "bye"));
    pair.primary(data(1000, "by"));
    pair.primary(fin_at(1002, "e"));
    if (!secondary_first) {
      EXPECT_THAT(pair.released(), IsEmpty());
      pair.secondary(fin_at(1000, "bye"));
    }
    EXPECT_THAT(pair.released(), ElementsAre("1000 'by' ack 2000", "FIN 1002 'e' ack 2000"));
    pair.primary(fin_at(1003));
    EXPECT_THAT(pair.released(), ElementsAre("FIN 1003 ack 2000")) << "sent again";
  }
}

TEST(Comparer, ThePayloadBeforeAFinDoesNotWaitForIt) {
  ComparedPair pair;
  pair.primary(fin_at(1000, "bye"));
  pair.secondary(data(1000, "bye"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'bye' ack 2000"));
  pair.secondary(fin_at(1003));
  EXPECT_THAT(pair.released(), ElementsAre("FIN 1003 ack 2000"));
  pair.expect_complete();
}

TEST(Comparer, TheCommitSendsAFinThatWaits) {
  ComparedPair pair;
  pair.primary(fin_at(1000, "bye"));
  pair.secondary(data(1000, "bye"));
  pair.released();
  EXPECT_THAT(pair.committed(), ElementsAre("FIN 1003 ack 2000"));
}

TEST(Comparer, AStreamThatEndsEarlierThanTheOtherDiffersInLength) {
  const auto mismatch = [](const Bytes& ours, const Bytes& theirs) {
    ComparedPair pair;
    pair.primary(ours);
    pair.secondary(theirs);
    const std::string found = pair.mismatch();
    ComparedPair reversed;
    reversed.secondary(theirs);
    reversed.primary(ours);
    EXPECT_EQ(reversed.mismatch(), found);
    EXPECT_EQ(words(reversed.comparer.take_released()), pair.released());
    return found;
  };
  EXPECT_EQ(mismatch(tcp(data(1000, "abcdef")), tcp(fin_at(1000, "abc"))),
            "length: at sequence number 1003: 3 more bytes here, the end (FIN) there");
  EXPECT_EQ(mismatch(tcp(fin_at(1000, "abc")), tcp(data(1000, "abcdef"))),
            "length: at sequence number 1003: the end (FIN) here, 3 more bytes there");
  EXPECT_EQ(mismatch(tcp(fin_at(1000)), tcp(data(1000, "x"))),
            "length: at sequence number 1000: the end (FIN) here, 1 more bytes there");
}

TEST(Comparer, AStreamEndsOnce) {
  const auto after_fin = [](const Tcp& segment) {
    ComparedPair pair;
    pair.both(data(1000, "abc"));
    pair.both(fin_at(1003));
    pair.released();
    pair.primary(segment);
    EXPECT_THAT(pair.released(), IsEmpty()) << words(tcp(segment));
    return pair.mismatch();
  };
  EXPECT_THAT(after_fin(data(1003, "x")), StartsWith("length: at sequence number 1003"));
  EXPECT_THAT(after_fin(data(1002, "cx")), StartsWith("length"));
  EXPECT_THAT(after_fin(fin_at(1002)), StartsWith("length"));
  EXPECT_THAT(after_fin(fin_at(1000, "ab")), StartsWith("length"));

  ComparedPair within;
  within.both(data(1000, "abc"));
  within.released();
  within.primary(fin_at(1000, "ab"));
  EXPECT_THAT(within.mismatch(), StartsWith("length")) << "the stream goes on behind it";
  EXPECT_THAT(within.released(), IsEmpty());

  ComparedPair waiting;
  waiting.both(data(1000, "a"));
  waiting.released();
  waiting.primary(data(1003, "x"));  // where the end is going to be
  waiting.primary(fin_at(1001, "bc"));
  waiting.secondary(fin_at(1001, "bc"));
  EXPECT_THAT(waiting.released(), ElementsAre("FIN 1001 'bc' ack 2000"));
  EXPECT_THAT(waiting.mismatch(), StartsWith("length"));
}

// ---- RST

TEST(Comparer, AResetLeavesWhenBothHaveReset) {
  for (const bool secondary_first : {false, true}) {
    ComparedPair pair;
    pair.both(data(1000, "abc"));
    pair.released();
    if (secondary_first) pair.secondary(reset_at(1003));
    pair.primary(reset_at(1003));
    if (!secondary_first) {
      EXPECT_THAT(pair.released(), IsEmpty());
      pair.secondary(reset_at(1003));
    }
    EXPECT_THAT(pair.released(), ElementsAre("RST 1003 ack 2000"));
    pair.primary(reset_at(1003));
    EXPECT_THAT(pair.released(), ElementsAre("RST 1003 ack 2000")) << "sent again";
    pair.secondary(reset_at(1003));
    EXPECT_FALSE(pair.comparer.next_deadline());
  }
}

TEST(Comparer, AResetFollowsTheDataBeforeIt) {
  ComparedPair pair;
  pair.primary(data(1000, "abc"));
  pair.primary(reset_at(1003));
  pair.secondary(data(1000, "abc"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abc' ack 2000"));
  pair.secondary(reset_at(1003));
  EXPECT_THAT(pair.released(), ElementsAre("RST 1003 ack 2000"));
}

TEST(Comparer, AResetFollowsTheDataBeforeItWhateverItsSequenceNumber) {
  ComparedPair pair;
  pair.primary(data(1000, "abc"));
  pair.primary(reset_at(1000));  // in answer to something old
  pair.secondary(data(1000, "a"));
  pair.secondary(data(1001, "bc"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'a' ack 2000", "1001 'bc' ack 2000"));
  pair.secondary(reset_at(1000));
  EXPECT_THAT(pair.released(), ElementsAre("RST 1000 ack 2000"));

  ComparedPair gap;
  gap.both(data(999, "x"));
  gap.released();
  gap.primary(data(1001, "behind a gap"));
  gap.primary(reset_at(1000));
  gap.secondary(reset_at(1000));
  EXPECT_THAT(gap.released(), IsEmpty());
}

TEST(Comparer, AResetThatTheSecondaryRepeatsIsOne) {
  ComparedPair pair;
  pair.secondary(reset_at(1003));
  pair.secondary(reset_at(1003));
  pair.primary(reset_at(1003));
  EXPECT_THAT(pair.released(), ElementsAre("RST 1003 ack 2000"));
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
  EXPECT_FALSE(pair.comparer.next_deadline());
}

TEST(Comparer, AResetDoesNotAcknowledgeWhatTheSecondaryHasNot) {
  ComparedPair pair;
  pair.primary(reset_at(1003));
  pair.secondary(Tcp{.seq = 1003, .flags = rst});
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(pure_ack(1900, 1003));
  EXPECT_THAT(pair.released(), ElementsAre("RST 1003 ack 1900"));
}

TEST(Comparer, ASecondaryThatWasAheadWhenThePrimaryResetHasGoneOn) {
  ComparedPair pair;
  pair.both(data(1000, "abc"));
  pair.secondary(data(1003, "x"));
  pair.released();
  pair.primary(reset_at(1003));
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_THAT(pair.mismatch(), StartsWith("event: the primary VM has reset"));
}

TEST(Comparer, WhatTheSecondarySendsOfTheTimeBeforeAResetIsNoDifference) {
  ComparedPair pair;
  pair.both(data(1000, "abc"));
  pair.released();
  pair.primary(reset_at(1010));  // seven bytes before it have got lost
  pair.secondary(data(1003, "defghij"));
  EXPECT_EQ(pair.mismatch(), "");
  pair.secondary(reset_at(1010));
  EXPECT_THAT(pair.released(), ElementsAre("RST 1010 ack 2000"));
  EXPECT_FALSE(pair.comparer.next_deadline()) << "nobody waits for what has no stream any more";
}

TEST(Comparer, WhatFollowsAResetIsNoRetransmissionForStandingBeforeIt) {
  ComparedPair pair;
  pair.both(data(1000, "abc"));
  pair.both(reset_at(2000));  // beyond all that was sent
  pair.released();
  pair.primary(data(1000, "abc"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'abc' ack 2000"));
  pair.primary(data(1003, "never compared"));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(data(1003, "never compared"));
  EXPECT_THAT(pair.released(), ElementsAre("1003 'never compared' ack 2000"));
  // The same after a commit.
  pair.primary(from_port(reset_at(2000), 2));
  pair.committed();
  pair.primary(from_port(data(1003, "never compared"), 2));
  EXPECT_THAT(pair.released(), IsEmpty());
}

TEST(Comparer, TheSynOfAConnectionThatWasResetOpensANewOne) {
  ComparedPair pair;
  pair.both(syn_ack(5000));
  pair.both(reset_at(5001));
  pair.released();
  pair.primary(syn_ack(5000));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(syn_ack(5000));
  EXPECT_THAT(pair.released(), ElementsAre("SYN 5000 ack 2000"));
}

TEST(Comparer, ResetsWithPayloadAreComparedWhole) {
  const auto explained = [](std::string why) {
    Tcp segment = reset_at(1003);
    segment.payload = std::move(why);
    return segment;
  };
  ComparedPair pair;
  pair.primary(explained("no port"));
  pair.secondary(explained("no Port"));
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_THAT(pair.mismatch(), StartsWith("event: RST: payload at byte 3: 70"));
  pair.committed();
  pair.both(from_port(explained("why"), 2));
  EXPECT_THAT(pair.released(), ElementsAre("RST 1003 'why' ack 2000"));
  pair.primary(from_port(explained("why not"), 2));
  EXPECT_THAT(pair.released(), IsEmpty());
}

TEST(Comparer, ResetsOfRefusedConnectionsLeave) {
  ComparedPair pair;
  pair.both(Tcp{.seq = 0, .ack = 777, .flags = rst | ack});
  EXPECT_THAT(pair.released(), ElementsAre("RST 0 ack 777"));
}

TEST(Comparer, ResetsAtDifferentSequenceNumbersDiffer) {
  ComparedPair pair;
  pair.primary(reset_at(1003));
  pair.secondary(reset_at(1004));
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_EQ(pair.mismatch(), "event: RST: sequence number 1003 here, 1004 there");
}

TEST(Comparer, AResetByThePrimaryOnlyDiffersAsSoonAsTheSecondaryGoesOn) {
  for (const Tcp& on : {data(1003, "x"), fin_at(1003), pure_ack(2001, 1003)}) {
    ComparedPair pair;
    pair.both(data(1000, "abc"));
    pair.released();
    pair.primary(reset_at(1003));
    EXPECT_EQ(pair.mismatch(), "");
    pair.secondary(on);
    EXPECT_THAT(pair.released(), IsEmpty());
    EXPECT_THAT(pair.mismatch(), StartsWith("event: the primary VM has reset"));
  }
}

TEST(Comparer, AResetByTheSecondaryOnlyDiffersAsSoonAsThePrimaryGoesOn) {
  for (const Tcp& on : {data(1003, "x"), fin_at(1003), pure_ack(2001, 1003)}) {
    ComparedPair pair;
    pair.both(data(1000, "abc"));
    pair.released();
    pair.secondary(reset_at(1003));
    EXPECT_EQ(pair.mismatch(), "");
    pair.primary(on);
    EXPECT_THAT(pair.released(), IsEmpty());
    EXPECT_THAT(pair.mismatch(), StartsWith("event: "));
  }
}

TEST(Comparer, AVmThatIsBehindDoesNotGoOnAfterTheOthersReset) {
  ComparedPair pair;
  pair.both(data(1000, "abc"));
  pair.secondary(data(1003, "def"));
  pair.secondary(reset_at(1006));
  pair.primary(data(1003, "def"));
  pair.primary(reset_at(1006));
  EXPECT_EQ(pair.mismatch(), "");
  EXPECT_THAT(pair.released(),
              ElementsAre("1000 'abc' ack 2000", "1003 'def' ack 2000", "RST 1006 ack 2000"));
}

TEST(Comparer, AResetByOneVmOnlyTimesOutIfTheOtherIsSilent) {
  for (const bool primary : {false, true}) {
    ComparedPair pair;
    pair.enter();
    pair.both(data(1000, "abc"));
    primary ? pair.primary(reset_at(1003)) : pair.secondary(reset_at(1003));
    pair.pass(249ms);
    EXPECT_EQ(pair.mismatch(), "");
    pair.pass(1ms);
    EXPECT_EQ(pair.mismatch(), std::string("timeout: the ") + (primary ? "primary" : "secondary") +
                                   " VM's RST at sequence number 1003 has waited for 250 ms");
  }
}

// ---- Datagrams

TEST(Comparer, DatagramsAreComparedInOrderAndWhole) {
  ComparedPair pair;
  const Bytes one = udp({.payload = "one"}, {.ip_id = 1});
  const Bytes two = udp({.payload = "two"}, {.ip_id = 2, .checksum = Checksum::partial});
  pair.primary(one + two);
  pair.secondary(udp({.payload = "one"}, {.ip_id = 9, .ttl = 3, .checksum = Checksum::none}));
  EXPECT_EQ(pair.comparer.take_released().bytes, one);
  pair.secondary(udp({.payload = "two"}));
  EXPECT_EQ(pair.comparer.take_released().bytes, two) << "untouched";
  pair.secondary(udp({.payload = "three"}));
  pair.primary(udp({.payload = "three"}));
  EXPECT_THAT(pair.released(), ElementsAre("udp 'three'"));
  EXPECT_EQ(pair.mismatch(), "");
}

TEST(Comparer, DatagramsThatDifferStopTheirFlowUntilTheCommit) {
  ComparedPair pair;
  pair.primary(udp({.payload = "abcd"}));
  pair.secondary(udp({.payload = "abXd"}));
  EXPECT_EQ(pair.mismatch(), "payload: at byte 2 (of 4): 63 64 here, 58 64 there");
  pair.both(udp({.payload = "later"}));
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_THAT(pair.committed(), ElementsAre("udp 'abcd'", "udp 'later'"));
  pair.both(udp({.payload = "next"}));
  EXPECT_THAT(pair.released(), ElementsAre("udp 'next'"));
}

TEST(Comparer, DatagramsOfAnotherSizeDifferInLength) {
  ComparedPair pair;
  pair.secondary(udp({.payload = "abcd"}));
  pair.secondary(udp({.payload = "behind it"}));
  pair.primary(udp({.payload = "abc"}));
  pair.secondary(udp({.payload = "ignored"}));
  EXPECT_EQ(pair.mismatch(), "length: 11 bytes here, 12 bytes there");
  EXPECT_EQ(pair.counters().secondary_forgotten_frames, 3u);
  EXPECT_THAT(pair.released(), IsEmpty());
}

TEST(Comparer, EchoesAreComparedButForTheirChecksum) {
  ComparedPair pair;
  pair.both(icmp({.sequence = 1}));
  pair.both(icmp({.sequence = 2}, {.source = "fd00::2", .destination = "fd00::1"}));
  EXPECT_EQ(pair.released().size(), 2u);
  pair.primary(icmp({.sequence = 3}));
  pair.secondary(icmp({.sequence = 4}));
  EXPECT_EQ(pair.mismatch(),
            "payload: at byte 7 of the header: 03 70 69 6e 67 here, 04 70 69 6e 67 there");
}

TEST(Comparer, FragmentsAreComparedByPlaceAndContent) {
  ComparedPair pair;
  const Bytes first = fragment(17, 0, true, "01234567", {.ip_id = 1});
  const Bytes last = fragment(17, 8, false, "89", {.ip_id = 1});
  pair.primary(first + last);
  pair.secondary(fragment(17, 0, true, "01234567", {.ip_id = 7}) +
                 fragment(17, 8, false, "89", {.ip_id = 7}));
  EXPECT_EQ(pair.comparer.take_released().bytes, first + last);
  pair.primary(first);
  pair.secondary(fragment(17, 8, true, "01234567", {.ip_id = 7}));
  EXPECT_THAT(pair.mismatch(), StartsWith("payload: fragment at 0 (more follow) here, at 8"));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.committed();
  pair.primary(fragment(17, 8, true, "01234567"));
  pair.secondary(fragment(17, 8, false, "01234567"));
  EXPECT_THAT(pair.mismatch(), HasSubstr("8 (more follow) here, at 8 (last) there"));
}

TEST(Comparer, OtherProtocolsAreCompared) {
  ComparedPair pair;
  pair.both(ip(47, "tunnelled"));
  EXPECT_EQ(pair.released().size(), 1u);
  pair.primary(ip(47, "tunnelled"));
  pair.secondary(ip(47, "tunnelleD"));
  EXPECT_THAT(pair.mismatch(), StartsWith("payload: at byte 8 (of 9)"));
}

TEST(Comparer, EthernetPaddingIsNoDifference) {
  ComparedPair pair;
  const Bytes bare = arp(true);
  const Bytes padded = arp(true, {.padding = 18});
  pair.primary(bare);
  pair.secondary(padded);
  pair.primary(padded);
  pair.secondary(bare);
  EXPECT_EQ(pair.comparer.take_released().bytes, bare + padded);
  pair.primary(bare);
  pair.secondary(arp(true, {.padding = 19}));
  EXPECT_THAT(pair.mismatch(), StartsWith("length")) << "beyond 60 bytes it is content";
  pair.committed();
  Bytes content = padded;
  content.back() = std::byte{1};
  pair.primary(bare);
  pair.secondary(content);
  EXPECT_THAT(pair.mismatch(), StartsWith("length")) << "padding is zero";
  pair.committed();
  Bytes other = padded;
  other[bare.size() - 1] ^= std::byte{1};
  pair.primary(bare);
  pair.secondary(other);
  EXPECT_THAT(pair.mismatch(), StartsWith("length"));
}

// ---- Time

TEST(Comparer, WaitingIsCountedFromTheSecondarysEntry) {
  ComparedPair pair;
  pair.primary(data(1000, "early"));
  pair.pass(200ms);
  pair.enter();
  EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 250ms);
  pair.primary(from_port(data(1000, "late"), 2));
  pair.pass(249ms);
  EXPECT_EQ(pair.mismatch(), "");
  pair.pass(1ms);
  EXPECT_EQ(pair.mismatch(),
            "timeout: the primary VM's payload at sequence number 1000 has waited for 450 ms");
  EXPECT_EQ(pair.mismatches(Reason::timeout), 2u) << "both flows";
  EXPECT_FALSE(pair.comparer.next_deadline()) << "a flow times out once an epoch";
  pair.secondary(data(1000, "early"));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'early' ack 2000")) << "late, but the same";
}

TEST(Comparer, ASecondaryThatNeverEntersTimesOutLater) {
  ComparedPair pair;
  pair.primary(data(1000, "x"));
  EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 1000ms);
  pair.pass(999ms);
  EXPECT_EQ(pair.mismatch(), "");
  pair.pass(1ms);
  EXPECT_THAT(pair.mismatch(), StartsWith("timeout"));
}

TEST(Comparer, EntryIsForgottenWithItsEpoch) {
  ComparedPair pair;
  pair.enter();
  pair.committed();
  pair.primary(data(1000, "x"));
  EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 1000ms);
}

TEST(Comparer, WhatOnlyTheSecondaryHasSentTimesOutToo) {
  const std::vector<Bytes> unmatched = {tcp(data(1000, "x")), tcp(fin_at(1000)), tcp(syn_ack(1000)),
                                        udp({.payload = "x"})};
  for (const Bytes& frame : unmatched) {
    ComparedPair pair;
    pair.secondary(frame);
    EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 250ms) << words(frame);
    pair.pass(250ms);
    EXPECT_THAT(pair.mismatch(), StartsWith("timeout: the secondary VM's")) << words(frame);
  }
}

TEST(Comparer, TheSecondarysAcknowledgementsNeverTimeOut) {
  ComparedPair pair;
  pair.secondary(pure_ack(5000));
  EXPECT_FALSE(pair.comparer.next_deadline());
}

TEST(Comparer, TheNextDeadlineIsThatOfTheOldestThatStillWaits) {
  ComparedPair pair;
  pair.enter();
  pair.primary(from_port(data(1000, "a"), 1));
  pair.now += 10ms;
  pair.primary(from_port(data(1000, "b"), 2));
  pair.now += 10ms;
  pair.secondary(from_port(data(1000, "c"), 3));
  EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 230ms);
  pair.secondary(from_port(data(1000, "a"), 1));
  EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 240ms);
  pair.secondary(from_port(data(1000, "b"), 2));
  EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 250ms);
  pair.primary(from_port(data(1000, "d"), 4));
  pair.now += 10ms;
  EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 240ms) << "the secondary's";
  pair.primary(from_port(data(1000, "c"), 3));
  pair.secondary(from_port(data(1000, "d"), 4));
  EXPECT_FALSE(pair.comparer.next_deadline());
  pair.secondary(udp({.payload = "x"}));
  pair.now += 10ms;
  pair.primary(data(1000, "x"));
  EXPECT_EQ(*pair.comparer.next_deadline(), pair.now + 240ms) << "the secondary's is older";
}

TEST(Comparer, AFlowThatDiffersHasNoDeadline) {
  ComparedPair pair;
  pair.enter();
  pair.primary(data(1000, "abc"));
  pair.secondary(data(1000, "xyz"));
  EXPECT_FALSE(pair.comparer.next_deadline());
  pair.pass(10s);
  EXPECT_EQ(pair.mismatches(Reason::timeout), 0u);
}

// ---- Limits

TEST(Comparer, BeyondTheSoftLimitACheckpointIsAskedFor) {
  ComparedPair pair({.waiting_bytes_soft = 1000, .waiting_bytes_hard = 100'000});
  pair.primary(data(1000, std::string(800, 'x')));
  EXPECT_EQ(pair.mismatch(), "");
  pair.secondary(from_port(data(1000, std::string(800, 'x')), 2));
  EXPECT_THAT(pair.mismatch(), StartsWith("overflow: more than 1000 bytes wait"));
  pair.primary(data(1800, "y"));
  EXPECT_EQ(pair.mismatches(Reason::overflow), 2u);
  EXPECT_EQ(pair.counters().dropped_frames, 0u);
}

TEST(Comparer, AConnectionWhoseSynWasDroppedIsNotMistakenForTheOneBefore) {
  for (const bool primary : {false, true}) {
    ComparedPair pair({.waiting_bytes_soft = 500, .waiting_bytes_hard = 500});
    pair.both(data(100'000, "old"));
    pair.both(fin_at(100'003));
    pair.released();
    pair.primary(udp({.payload = std::string(430, 'x')}));
    if (primary) {
      pair.primary(syn_ack(5000));  // dropped
      pair.primary(data(5001, "new"));
    } else {
      pair.secondary(syn_ack(200'000));  // dropped
      pair.secondary(data(200'001, "new"));
      pair.primary(data(200'001, "new"));
    }
    EXPECT_THAT(pair.released(), IsEmpty()) << primary;
  }
}

TEST(Comparer, AFloodOfNewFlowsFillsTheTableAndNotTheMemory) {
  ComparedPair pair({.flows_max = 100});
  for (std::uint16_t port = 1; port <= 1000; ++port) pair.both(from_port(data(1000, "x"), port));
  EXPECT_EQ(pair.comparer.flows(), 100u);
  EXPECT_EQ(pair.released().size(), 100u);
  EXPECT_EQ(pair.comparer.waiting_frames(), 900u);
  EXPECT_THAT(pair.mismatch(), StartsWith("overflow: no room for another flow"));
  EXPECT_EQ(pair.mismatches(Reason::overflow), 1800u);
  EXPECT_EQ(pair.counters().secondary_dropped_frames, 900u);
  EXPECT_EQ(pair.committed().size(), 900u);
  pair.expect_complete();
}

TEST(Comparer, AFloodOfTheSecondarysFlowsEndsWithItsEpoch) {
  ComparedPair pair({.flows_max = 100});
  for (std::uint16_t port = 1; port <= 1000; ++port) pair.secondary(from_port(pure_ack(1), port));
  EXPECT_EQ(pair.comparer.flows(), 100u);
  pair.primary(data(1000, "x"));
  EXPECT_EQ(pair.comparer.waiting_frames(), 1u);
  EXPECT_EQ(pair.committed().size(), 1u);
  EXPECT_EQ(pair.comparer.flows(), 0u);
  pair.both(data(1000, "x"));
  EXPECT_EQ(pair.released().size(), 1u);
}

TEST(Comparer, ASecondaryThatNeverAnswersCostsNoMoreThanTheLimit) {
  CompareLimits limits{.waiting_bytes_soft = 100'000, .waiting_bytes_hard = 200'000};
  ComparedPair pair(limits);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    pair.primary(data(1000 + 1448 * i, pattern(1448, i)));
    EXPECT_LE(pair.comparer.waiting_bytes(), limits.waiting_bytes_hard);
  }
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_GT(pair.counters().dropped_frames, 0u);
  pair.expect_complete();
  const std::size_t waiting = pair.comparer.waiting_frames();
  EXPECT_EQ(pair.committed().size(), waiting);
  pair.expect_complete();
}

TEST(Comparer, FlowsWhoseFramesWaitForTheCommitAreNotForgotten) {
  // None of them is closed before the commit, though nothing is compared in them any more.
  ComparedPair pair({.flows_max = 4});
  pair.both(from_port(fin_at(1000), 1));
  pair.primary(from_port(fin_at(1001, "after the end"), 1));
  pair.secondary(from_port(fin_at(1001, "other"), 1));
  for (std::uint16_t port = 2; port <= 3; ++port) {
    pair.primary(udp({.destination_port = port, .payload = "a"}));
    pair.secondary(udp({.destination_port = port, .payload = "b"}));
  }
  Tcp without_ack = from_port(data(1000, "x"), 4);
  without_ack.flags = psh;
  pair.primary(without_ack);
  pair.released();
  for (std::uint16_t port = 10; port <= 20; ++port) pair.both(from_port(reset_at(1), port));
  EXPECT_THAT(pair.released(), IsEmpty()) << "no room for any other";
  EXPECT_EQ(pair.counters().flows_evicted, 0u);
  pair.committed();
  pair.expect_complete();
  for (std::uint16_t port = 10; port <= 30; ++port) pair.both(from_port(reset_at(1), port));
  EXPECT_EQ(pair.released().size(), 21u) << "three have ended or wait for nothing";
}

TEST(Comparer, AClosedFlowIsNotForgottenWhileAFrameOfItWaitsForTheCommit) {
  ComparedPair pair({.flows_max = 1});
  pair.both(fin_at(1000));
  Tcp without_ack = data(1001, "x");
  without_ack.flags = psh;
  pair.primary(without_ack);
  pair.both(from_port(data(1000, "y"), 2));
  EXPECT_EQ(pair.counters().flows_evicted, 0u);
  pair.committed();
  pair.both(from_port(data(1001, "y"), 2));
  EXPECT_EQ(pair.counters().flows_evicted, 1u);
  pair.expect_complete();
}

TEST(Comparer, AFlowIsClosedByWhatTheCommitSendsAndOpenedByItsNextSyn) {
  ComparedPair pair({.flows_max = 2});
  pair.primary(from_port(fin_at(1000), 1));
  pair.primary(from_port(reset_at(1000), 2));
  pair.committed();
  pair.both(from_port(data(1000, "x"), 3));
  pair.both(from_port(data(1000, "x"), 4));
  EXPECT_EQ(pair.counters().flows_evicted, 2u);

  ComparedPair reopened({.flows_max = 2});
  for (std::uint16_t port = 1; port <= 2; ++port) {
    reopened.both(from_port(port == 1 ? fin_at(1000) : reset_at(1000), port));
    reopened.both(from_port(syn_ack(5000), port));
  }
  reopened.both(from_port(data(1000, "x"), 3));
  EXPECT_EQ(reopened.counters().flows_evicted, 0u);
}

TEST(FlowTable, FindsWhatItHasHoweverManyItHasForgotten) {
  // Nearly as full as its slots allow, so that flows stand in the way of each other.
  constexpr std::size_t flows_max = 760;
  FlowTable table(flows_max);
  const auto use = [&](std::uint32_t number) {
    FlowKey key;
    key.kind = Kind::udp;
    key.guest_port = static_cast<std::uint16_t>(number);
    key.peer_port = static_cast<std::uint16_t>(number >> 16);
    Flow* flow = table.get(key);
    ASSERT_NE(flow, nullptr);
    ASSERT_EQ(flow->key, key);
    flow->primary_seen = true;
    table.settle(*flow);
  };
  for (std::uint32_t number = 0; number < 20'000; ++number) {
    use(number);
    // The one that would be forgotten next is used again: still there, and the newest now.
    if (number >= flows_max && number % 3 == 0) {
      const auto evicted = table.evicted();
      for (std::uint32_t back = 1; back < flows_max / 2; back += 50) use(number - back);
      ASSERT_EQ(table.evicted(), evicted) << number;
    }
    ASSERT_LE(table.size(), flows_max);
  }
}

// ---- Traces

TEST(Comparer, TellsTheFateOfEachFrame) {
  ComparedPair pair;
  Words told;
  pair.comparer.trace(
      [&](Comparer::Side side, std::span<const std::byte> frame, std::string comment) {
        told.push_back((side == Comparer::Side::primary ? "P " : "S ") +
                       words(Bytes(frame.begin(), frame.end())) + ": " + comment);
      });
  pair.primary(data(1000, "abc"));
  pair.secondary(data(1000, "abc"));
  pair.primary(data(1003, "defg"));
  pair.secondary(data(1003, "de"));
  pair.secondary(data(1005, "fX"));
  pair.primary(udp({.payload = "x"}));
  pair.committed();
  EXPECT_THAT(
      told, ElementsAre(
                "P 1000 'abc' ack 2000: released", "S 1000 'abc' ack 2000: matches what waits",
                "S 1003 'de' ack 2000: matches what waits", "P 1003 'defg' ack 2000: split at 2",
                "S 1005 'fX' ack 2000: differs from what waits", "P udp 'x': held for the commit"));
}

// ---- Bad input

TEST(Comparer, FramesThatCannotBeParsedWaitForTheCommitInTheirPlace) {
  ComparedPair pair;
  Bytes truncated = detail::frame({}, 0x0800, from_hex("45 00 00 28"));
  Bytes lying = tcp(data(1000, "abc"));
  lying[8 + 12 + 14 + 2] = std::byte{0x7f};  // IP total length
  pair.primary(tcp(data(1000, "a")));
  pair.primary(truncated);
  pair.primary(lying);
  pair.primary(tcp(data(1001, "b")));
  EXPECT_THAT(pair.mismatch(), StartsWith("unparsable: a frame of"));
  EXPECT_EQ(pair.mismatches(Reason::unparsable), 2u);
  EXPECT_THAT(pair.released(), IsEmpty());
  const Frames out = pair.comparer.close_epoch();
  EXPECT_EQ(out.bytes, tcp(data(1000, "a")) + truncated + lying + tcp(data(1001, "b")));
  pair.expect_complete();
}

TEST(Comparer, TheSecondarysUnparsableFramesAreCountedAndIgnored) {
  ComparedPair pair;
  pair.secondary(detail::frame({}, 0x0800, from_hex("45 00 00 28")));
  EXPECT_EQ(pair.counters().secondary_unparsable_frames, 1u);
  EXPECT_EQ(pair.mismatch(), "");
  EXPECT_EQ(pair.comparer.waiting_bytes(), 0u);
}

TEST(Comparer, EveryTruncationOfAFrameIsHandled) {
  const std::vector<Bytes> frames = {
      tcp({.options = syn_options(1), .payload = "abc"}, {.vlans = {5}}),
      tcp({.payload = "abc"}, {.source = "fd00::2", .destination = "fd00::1"}),
      udp({.payload = "x"}),
      icmp(),
      arp(),
      fragment(17, 8, true, "01234567")};
  for (const Bytes& frame : frames) {
    for (std::size_t size = 8; size <= frame.size(); ++size) {
      ComparedPair pair;
      Bytes cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size));
      store_be(cut.data(), static_cast<std::uint32_t>(size - 8));
      pair.primary(cut);
      pair.secondary(cut);
      const Frames released = pair.comparer.take_released();
      const Frames held = pair.comparer.close_epoch();
      EXPECT_EQ(released.bytes.size() + held.bytes.size(), cut.size());
      pair.expect_complete();
    }
  }
}

TEST(Comparer, InputThatIsNoFrameIsDroppedAndCounted) {
  for (std::size_t size = 1; size < 60; ++size) {
    ComparedPair pair;
    Bytes frame = tcp(data(1000, "abc"));
    frame.resize(size);
    pair.primary(tcp(data(1000, "a")) + frame);
    pair.secondary(frame);
    EXPECT_EQ(pair.counters().dropped_frames, 1u);
    EXPECT_EQ(pair.counters().secondary_unparsable_frames, 1u);
    EXPECT_EQ(pair.mismatches(Reason::unparsable), 1u);
    EXPECT_EQ(pair.comparer.waiting_frames(), 1u);
    pair.expect_complete();
  }
}

TEST(Comparer, AFrameLargerThanAnyFilterSendsIsDroppedAndCounted) {
  ComparedPair pair;
  Bytes frame(8 + (1u << 20));
  store_be(frame.data(), std::uint32_t{1u << 20});
  pair.primary(frame);
  pair.secondary(frame);
  EXPECT_EQ(pair.counters().dropped_frames, 1u);
  EXPECT_EQ(pair.counters().secondary_unparsable_frames, 1u);
  EXPECT_EQ(pair.mismatches(Reason::unparsable), 1u);
}

TEST(Comparer, FramesLargerThanAnyMtuAreCompared) {
  ComparedPair pair;
  const Bytes jumbo =
      tcp({.payload = pattern(65'000), .gso_size = 8948}, {.checksum = Checksum::partial});
  pair.both(jumbo);
  EXPECT_EQ(pair.comparer.take_released().bytes, jumbo);
}

TEST(Comparer, LongHeaderChainsWaitForTheCommit) {
  ComparedPair pair;
  Link link{.source = "fd00::2", .destination = "fd00::1"};
  for (int i = 0; i < 20; ++i) link.extensions.push_back({60, {}});
  const Bytes frame = tcp(data(1000, "x"), link);
  pair.both(frame);
  EXPECT_EQ(pair.mismatches(Reason::unparsable), 1u);
  EXPECT_EQ(pair.comparer.close_epoch().bytes, frame);
}

TEST(Comparer, ASegmentThatNobodyWouldTakeWaitsForTheCommit) {
  ComparedPair pair;
  pair.both(data(1000, "abc"));
  pair.released();
  Tcp without_ack = data(1003, "def");
  without_ack.flags = psh;
  pair.both(without_ack);
  pair.secondary(data(1003, "def"));
  Tcp nothing = pure_ack(2000, 1003);
  nothing.flags = 0;
  pair.both(nothing);
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_THAT(pair.committed(), ElementsAre("1003 'def'", "1003"));
}

TEST(Comparer, RetransmissionsWithoutEndAreHandled) {
  ComparedPair pair;
  for (std::uint32_t i = 0; i < 400; ++i) pair.primary(data(1000 + i, "x"));
  for (std::uint32_t i = 0; i < 400; ++i) pair.primary(data(1000 + (i * 7) % 400, "x"));
  pair.secondary(data(1000, std::string(400, 'x')));
  EXPECT_EQ(pair.released().size(), 400u + 128u) << "what waits in no queue waits for the commit";
  EXPECT_EQ(pair.committed().size(), 400u - 128u);
  for (std::uint32_t i = 0; i < 400; ++i) {
    pair.primary(data(1400 + 2 * i, "x"));
    pair.primary(data(1400 + 2 * i, "xy"));
    pair.secondary(data(1400 + 2 * i, "xy"));
  }
  EXPECT_EQ(pair.released().size(), 800u) << "never many at a time";
  pair.primary(data(3000, "behind a gap"));
  for (std::uint32_t i = 0; i < 400; ++i) {
    pair.primary(data(2200 + i, "x"));
    pair.secondary(data(2200 + i, "x"));
  }
  EXPECT_EQ(pair.released().size(), 400u);
  pair.expect_complete();
}

// ---- What is wrong in QEMU's colo-compare

TEST(ColoCompareWeakness, OffsetsOfPartlyMatchingSegmentsAreAligned) {
  ComparedPair pair;
  pair.primary(data(1000, "abcdef"));
  pair.secondary(data(1000, "ab"));
  pair.secondary(data(1001, "bcde"));  // begins in the middle of what has matched
  pair.secondary(data(1003, "def"));
  EXPECT_THAT(pair.released(),
              ElementsAre("1000 'ab' ack 2000", "1002 'cde' ack 2000", "1005 'f' ack 2000"));
  EXPECT_EQ(pair.mismatch(), "");
}

TEST(ColoCompareWeakness, TheLowerAcknowledgementIsFoundAcrossWraparound) {
  ComparedPair pair;
  pair.primary(data(1000, "a", 0x00000010));
  pair.secondary(data(1000, "a", 0xfffffff0));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'a' ack 4294967280"));
  pair.secondary(pure_ack(0x00000005, 1001));
  EXPECT_THAT(pair.released(), ElementsAre("1001 ack 5"));
  pair.primary(data(1001, "b", 0x00000010));
  pair.secondary(data(1001, "b", 0x00000020));
  EXPECT_THAT(pair.released(), ElementsAre("1001 'b' ack 16"));
}

TEST(ColoCompareWeakness, PureAcksWaitForTheSecondary) {
  ComparedPair pair;
  pair.primary(pure_ack(2000));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(pure_ack(2000));
  EXPECT_EQ(pair.released().size(), 1u);
}

TEST(ColoCompareWeakness, SynsWaitForTheSecondary) {
  ComparedPair pair;
  pair.primary(syn_ack(5000));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(syn_ack(5000));
  EXPECT_EQ(pair.released().size(), 1u);
}

TEST(ColoCompareWeakness, FinsWaitForTheSecondary) {
  ComparedPair pair;
  pair.both(data(1000, "x"));
  pair.released();
  pair.primary(fin_at(1001));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(fin_at(1001));
  EXPECT_EQ(pair.released().size(), 1u);
}

TEST(ColoCompareWeakness, ResetsWaitForTheSecondary) {
  ComparedPair pair;
  pair.both(data(1000, "x"));
  pair.released();
  pair.primary(reset_at(1001));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(reset_at(1001));
  EXPECT_EQ(pair.released().size(), 1u);
}

TEST(ColoCompareWeakness, AFullQueueDropsNothingSilently) {
  ComparedPair pair({.waiting_bytes_soft = 500, .waiting_bytes_hard = 1000});
  for (std::uint32_t i = 0; i < 20; ++i) pair.primary(data(1000 + 100 * i, pattern(100, i)));
  for (std::uint32_t i = 0; i < 20; ++i) {
    pair.secondary(from_port(data(1000 + 100 * i, pattern(100, i)), 2));
  }
  const CompareCounters& counters = pair.counters();
  EXPECT_GT(counters.dropped_frames, 0u);
  EXPECT_EQ(counters.dropped_frames + pair.comparer.waiting_frames(), 20u);
  EXPECT_GT(counters.secondary_dropped_frames, 0u);
  EXPECT_THAT(pair.mismatch(), StartsWith("overflow"));
  EXPECT_GE(pair.mismatches(Reason::overflow),
            counters.dropped_frames + counters.secondary_dropped_frames);
  pair.expect_complete();
}

TEST(ColoCompareWeakness, AgesDoNotFollowTheWallClock) {
  // Time is the caller's steady clock and nothing else: without a tick nothing ages.
  ComparedPair pair({.timeout = 1ms});
  pair.enter();
  pair.primary(data(1000, "x"));
  const auto deadline = pair.comparer.next_deadline();
  ASSERT_TRUE(deadline);
  EXPECT_EQ(*deadline, pair.now + 1ms);
  pair.comparer.tick(pair.now - 1h);
  pair.comparer.tick(*deadline - 1ns);
  EXPECT_EQ(pair.mismatch(), "");
  pair.comparer.tick(*deadline);
  EXPECT_THAT(pair.mismatch(), StartsWith("timeout"));
}

TEST(ColoCompareWeakness, ArpIsCompared) {
  ComparedPair pair;
  pair.primary(arp(true));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(arp(true));
  EXPECT_EQ(pair.released().size(), 1u);
  pair.primary(arp(true));
  Bytes other = arp(true);
  other.back() ^= std::byte{1};
  pair.secondary(other);
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_THAT(pair.mismatch(), StartsWith("payload"));
}

TEST(ColoCompareWeakness, Ipv6IsCompared) {
  const Link link{.source = "fd00::2", .destination = "fd00::1"};
  ComparedPair pair;
  pair.primary(tcp(data(1000, "abc"), link));
  EXPECT_THAT(pair.released(), IsEmpty());
  pair.secondary(tcp(data(1000, "abX"), link));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'ab' ack 2000"));
  EXPECT_THAT(pair.mismatch(), StartsWith("payload"));
}

TEST(ColoCompareWeakness, VlanIsCompared) {
  const Link link{.vlans = {7}};
  ComparedPair pair;
  pair.primary(tcp(data(1000, "abc"), link));
  pair.secondary(tcp(data(1000, "abc"), {.vlans = {8}}));
  EXPECT_THAT(pair.released(), IsEmpty()) << "another VLAN is another conversation";
  pair.secondary(tcp(data(1000, "abX"), link));
  EXPECT_THAT(pair.released(), ElementsAre("1000 'ab' ack 2000"));
  EXPECT_THAT(pair.mismatch(), StartsWith("payload"));
}

TEST(ColoCompareWeakness, AFullFlowTableForgetsClosedFlowsOnly) {
  ComparedPair pair({.flows_max = 4});
  pair.both(from_port(data(1000, "open"), 1));
  for (std::uint16_t port = 2; port <= 4; ++port) pair.both(from_port(fin_at(1000, "x"), port));
  pair.both(from_port(fin_at(1001), 2));  // used again: no longer the oldest
  pair.released();
  pair.both(from_port(data(1000, "new"), 5));
  EXPECT_EQ(pair.comparer.flows(), 4u);
  EXPECT_EQ(pair.counters().flows_evicted, 1u);
  pair.released();
  pair.primary(from_port(data(1000, "open"), 1));
  EXPECT_EQ(pair.released().size(), 1u) << "still known: a retransmission";
  pair.primary(from_port(fin_at(1001), 2));
  EXPECT_EQ(pair.released().size(), 1u) << "still known";
  pair.primary(from_port(fin_at(1001), 3));
  EXPECT_EQ(pair.released().size(), 0u) << "forgotten: compared like a new one";
}

TEST(Comparer, ATableFullOfOpenFlowsForgetsTheSilentOnesAtTheEndOfTheEpoch) {
  ComparedPair pair({.flows_max = 3});
  for (std::uint16_t port = 1; port <= 3; ++port) pair.both(from_port(data(1000, "x"), port));
  pair.released();
  pair.committed();
  pair.both(from_port(data(1001, "y"), 2));  // the others' clients may have gone
  EXPECT_EQ(pair.released().size(), 1u);
  pair.both(from_port(data(1000, "new"), 4));
  EXPECT_EQ(pair.released().size(), 0u);
  EXPECT_EQ(pair.mismatches(Reason::overflow), 2u) << "one a VM";
  EXPECT_EQ(pair.comparer.flows(), 3u) << "within an epoch none is forgotten";
  EXPECT_EQ(pair.committed().size(), 1u);
  EXPECT_EQ(pair.comparer.flows(), 1u);
  EXPECT_EQ(pair.counters().flows_evicted, 2u);
  pair.both(from_port(data(1003, "newer"), 4));
  EXPECT_EQ(pair.released().size(), 1u) << "there is room now";
  pair.primary(from_port(data(1001, "y"), 2));
  EXPECT_EQ(pair.released().size(), 1u) << "still known: a retransmission";
}

TEST(Comparer, ATableWithRoomForgetsNoOpenFlow) {
  ComparedPair pair({.flows_max = 3});
  pair.both(from_port(data(1000, "x"), 1));
  pair.committed();
  pair.committed();
  EXPECT_EQ(pair.comparer.flows(), 1u);
}

TEST(ColoCompareWeakness, DatagramsOfTheSameSizeAreNotTakenForEachOther) {
  ComparedPair pair;
  pair.primary(udp({.payload = "aaaa"}));
  pair.secondary(udp({.payload = "bbbb"}));
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_THAT(pair.mismatch(), StartsWith("payload"));
  pair.primary(icmp({.payload = "aaaa"}));
  pair.secondary(icmp({.payload = "bbbb"}));
  EXPECT_THAT(pair.released(), IsEmpty());
  EXPECT_EQ(pair.mismatches(Reason::payload), 2u);
}

TEST(ColoCompareWeakness, SackBlocksAndTimestampsOfThePrimaryStay) {
  ComparedPair pair;
  const Bytes ours = tcp({.options = timestamp_option(5, 6) + sack_option({{2100, 2200}})});
  pair.primary(ours);
  pair.secondary(Tcp{.options = timestamp_option(500, 600)});
  EXPECT_EQ(pair.comparer.take_released().bytes, ours);
}

}  // namespace
}  // namespace tandem::proxy
