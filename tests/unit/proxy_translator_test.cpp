// The translator: what QEMU's filter-rewriter gets wrong, then every promise of its own.
//
// A VM's conversation is written down once and built twice: in the numbers of the VM, and in those
// that clients see. Translating the one must give the other, byte for byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "proxy/translator.hpp"
#include "tests/unit/packet_builder.hpp"

namespace tandem::proxy {

void PrintTo(const Translation& translation, std::ostream* out) {
  *out << to_string(translation.flow) << " " << translation.offsets.sequence << "/"
       << translation.offsets.timestamp;
}

namespace {

using namespace test;
using namespace std::chrono_literals;
using namespace tcp_flag;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAreArray;

constexpr Translator::Time kStart{std::chrono::hours(1)};

/// What one VM draws for a connection: its first sequence number, and its clock when it begins.
struct Numbers {
  std::uint32_t isn;
  std::uint32_t clock;
};
constexpr Numbers kOwn{1'000'000, 70'000};        // the VM behind the translator
constexpr Numbers kSeen{4'000'000'000, 900'000};  // the primary VM, and so the client
constexpr Numbers kClient{50'000, 5'000};
constexpr Offsets kOffsets{kSeen.isn - kOwn.isn, kSeen.clock - kOwn.clock};

Link link_of(Checksum checksum) {
  Link link;
  link.checksum = checksum;
  return link;
}
Link ipv6(Link link = {}) {
  link.source = "fd00::2";
  link.destination = "fd00::1";
  return link;
}
Link vlan(Link link = {}) {
  link.vlans = {0x0123, 0x2042};
  return link;
}

/// A conversation between the guest, which uses `vm`'s numbers, and its peer.
struct Conversation {
  Numbers vm;
  Link link = {};
  std::uint16_t peer_port = 40000;

  Conversation with(Numbers other) const { return {other, link, peer_port}; }

  Bytes from_guest(Tcp segment) const {
    segment.destination_port = peer_port;
    return tcp(segment, link);
  }
  Bytes from_peer(Tcp segment) const {
    segment.destination_port = peer_port;
    return tcp(reversed(segment), reversed(link));
  }

  /// The guest answers the peer's SYN.
  Bytes syn_ack(std::uint32_t later = 0) const {
    return from_guest({.seq = vm.isn,
                       .ack = kClient.isn + 1,
                       .flags = syn | ack,
                       .options = syn_options(vm.clock + later, kClient.clock)});
  }
  /// The guest opens the connection itself.
  Bytes syn_alone(std::uint32_t later = 0) const {
    return from_guest(
        {.seq = vm.isn, .ack = 0, .flags = syn, .options = syn_options(vm.clock + later)});
  }
  Bytes data(std::uint32_t at, std::string payload, std::uint16_t gso_size = 0) const {
    return from_guest({.seq = vm.isn + 1 + at,
                       .ack = kClient.isn + 1,
                       .flags = ack | psh,
                       .options = timestamp_option(vm.clock + 10, kClient.clock + 5),
                       .payload = std::move(payload),
                       .gso_size = gso_size});
  }
  Bytes peer_syn(std::uint32_t isn = kClient.isn) const {
    return from_peer({.seq = isn, .ack = 0, .flags = syn, .options = syn_options(kClient.clock)});
  }
  Bytes peer_syn_ack() const {
    return from_peer({.seq = kClient.isn,
                      .ack = vm.isn + 1,
                      .flags = syn | ack,
                      .options = syn_options(kClient.clock, vm.clock)});
  }
  /// The peer has everything up to `received` and asks for something itself.
  Bytes peer_data(std::uint32_t received, std::string payload = "GET x") const {
    return from_peer({.seq = kClient.isn + 1,
                      .ack = vm.isn + 1 + received,
                      .flags = ack | psh,
                      .options = timestamp_option(kClient.clock + 20, vm.clock + 10),
                      .payload = std::move(payload)});
  }
  Bytes guest_flags(std::uint8_t flags) const {
    return from_guest({.seq = vm.isn + 100, .ack = kClient.isn + 50, .flags = flags});
  }
  Bytes peer_flags(std::uint8_t flags) const {
    const bool acks = (flags & ack) != 0;
    return from_peer({.seq = kClient.isn + 50, .ack = acks ? vm.isn + 101 : 0, .flags = flags});
  }

  FlowKey flow() const {
    Packet packet;
    const auto frame = syn_ack();
    EXPECT_EQ(parse(frame, Direction::from_guest, packet), Malformed::none);
    return packet.key;
  }
};

constexpr Numbers numbers(std::uint32_t isn, std::uint32_t clock) {
  return {isn, clock};
}

class Proxy {
 public:
  Bytes from_guest(const Bytes& frames) {
    Bytes out;
    translator.from_guest(frames, out, now);
    return checked(std::move(out), Direction::from_guest);
  }
  Bytes to_guest(const Bytes& frames) {
    Bytes out;
    translator.to_guest(frames, out, now);
    return checked(std::move(out), Direction::to_guest);
  }
  Bytes reference(const Bytes& frames) {
    Bytes out;
    translator.reference(frames, out, now);
    return checked(std::move(out), Direction::from_guest);
  }
  /// Loads a checkpoint without connections that need translating, and learns new ones.
  void begin_epoch() {
    translator.reset({});
    translator.learn(true);
  }
  /// The VM has `own` numbers where clients see `seen`.
  void learn(const Conversation& own, const Conversation& seen) {
    EXPECT_THAT(reference(seen.syn_ack()), IsEmpty());
    EXPECT_EQ(from_guest(own.syn_ack()), seen.syn_ack());
  }
  void sweep_after(std::chrono::milliseconds time) {
    now += time;
    translator.sweep(now);
  }

  Translator translator;
  Translator::Time now = kStart;

 private:
  /// Whatever comes out has right checksums, by the product's reckoning and by an independent one.
  static Bytes checked(Bytes out, Direction direction) {
    for (const auto& frame : split(out)) {
      Packet packet;
      if (parse(frame, direction, packet) != Malformed::none) continue;
      EXPECT_TRUE(checksums_are_right(frame, packet));
      EXPECT_EQ(reference_errors(frame), "");
    }
    return out;
  }
};

/// A translator that has learned `own` where clients see `seen`, and a connection of its own.
class LearnedConnection : public testing::Test {
 protected:
  LearnedConnection() {
    proxy_.begin_epoch();
    proxy_.learn(own_, seen_);
    EXPECT_EQ(proxy_.translator.size(), 1u);
  }
  Proxy proxy_;
  Conversation own_{kOwn};
  Conversation seen_{kSeen};
};

bool needs_checksum(const Bytes& frame) {
  return (std::to_integer<unsigned>(frame[8]) & 1) != 0;
}

// ---- What QEMU's filter-rewriter gets wrong

TEST(FilterRewriterWeakness, ChecksumOffloadFlagStaysRight) {
  const std::string large = pattern(20'000);
  for (const auto checksum : {Checksum::complete, Checksum::partial, Checksum::valid}) {
    for (const auto& link : {link_of(checksum), ipv6(link_of(checksum)), vlan(link_of(checksum)),
                             vlan(ipv6(link_of(checksum)))}) {
      Proxy proxy;
      proxy.begin_epoch();
      const Conversation own{kOwn, link};
      const Conversation seen{kSeen, link};
      proxy.learn(own, seen);
      const auto segment = proxy.from_guest(own.data(0, "hello"));
      EXPECT_EQ(needs_checksum(segment), checksum == Checksum::partial);
      EXPECT_EQ(segment, seen.data(0, "hello"));
      const auto gso = proxy.from_guest(own.data(5, large, 1448));
      EXPECT_EQ(needs_checksum(gso), checksum == Checksum::partial);
      EXPECT_EQ(gso, seen.data(5, large, 1448));
      EXPECT_EQ(proxy.to_guest(seen.peer_data(5)), own.peer_data(5));
      EXPECT_EQ(proxy.to_guest(seen.peer_data(5, large)), own.peer_data(5, large));
    }
  }
}

TEST(FilterRewriterWeakness, ACheckpointBetweenSynAckAndAckLeavesNoOffset) {
  Proxy proxy;
  const Conversation own{kOwn};
  const Conversation seen{kSeen};
  proxy.begin_epoch();
  proxy.learn(own, seen);
  // The checkpoint: from now on the VM has the primary VM's numbers.
  proxy.begin_epoch();
  EXPECT_EQ(proxy.from_guest(seen.data(0, "hello")), seen.data(0, "hello"));
  EXPECT_EQ(proxy.to_guest(seen.peer_data(5)), seen.peer_data(5));
  // The SYN-ACK is sent again, by both.
  EXPECT_THAT(proxy.reference(seen.syn_ack(1000)), IsEmpty());
  EXPECT_EQ(proxy.from_guest(seen.syn_ack(1000)), seen.syn_ack(1000));
  EXPECT_EQ(proxy.translator.size(), 0u);
  EXPECT_EQ(proxy.from_guest(seen.data(0, "hello")), seen.data(0, "hello"));
  // By this VM alone: it waits, and what follows is not translated.
  proxy.begin_epoch();
  EXPECT_THAT(proxy.from_guest(seen.syn_ack(1000)), IsEmpty());
  EXPECT_EQ(proxy.translator.size(), 0u);
  EXPECT_EQ(proxy.from_guest(seen.data(0, "hello")), seen.data(0, "hello"));
  EXPECT_EQ(proxy.to_guest(seen.peer_data(5)), seen.peer_data(5));
}

TEST(FilterRewriterWeakness, ConnectionsOpenedByTheGuestAreTranslated) {
  for (const auto& link : {Link{}, ipv6(), vlan(link_of(Checksum::partial))}) {
    Proxy proxy;
    proxy.begin_epoch();
    const Conversation own{kOwn, link};
    const Conversation seen{kSeen, link};
    EXPECT_THAT(proxy.from_guest(own.syn_alone()), IsEmpty());
    EXPECT_EQ(proxy.reference(seen.syn_alone()), seen.syn_alone());
    EXPECT_EQ(proxy.to_guest(seen.peer_syn_ack()), own.peer_syn_ack());
    EXPECT_EQ(proxy.from_guest(own.data(0, "hello")), seen.data(0, "hello"));
    EXPECT_EQ(proxy.to_guest(seen.peer_data(5)), own.peer_data(5));
    EXPECT_THAT(proxy.translator.table(), ElementsAre(Translation{own.flow(), kOffsets}));
  }
}

TEST(FilterRewriterWeakness, ATranslatedConnectionSurvivesASecondFailover) {
  const Conversation old_own{kOwn};
  const Conversation old_seen{kSeen};
  Proxy first;
  first.begin_epoch();
  first.learn(old_own, old_seen);
  // Failover: the VM is the primary now, and a second secondary is loaded with its state.
  first.translator.learn(false);
  const auto table = decode_translations(encode(first.translator.table()));
  ASSERT_TRUE(table) << table.error().message;
  Proxy second;
  second.translator.reset(*table);
  second.translator.learn(true);
  EXPECT_EQ(second.from_guest(old_own.data(0, "hello")), old_seen.data(0, "hello"));
  EXPECT_EQ(second.to_guest(old_seen.peer_data(5)), old_own.peer_data(5));

  // The new primary VM opens a connection in its own numbers, which are what clients see.
  const Conversation new_seen{numbers(42, 71'000), {}, 40001};
  const Conversation new_own{numbers(3'000'000'000, 80'000), {}, 40001};
  const auto sent = first.from_guest(new_seen.syn_ack());
  EXPECT_EQ(sent, new_seen.syn_ack());
  EXPECT_THAT(second.reference(sent), IsEmpty());
  EXPECT_EQ(second.from_guest(new_own.syn_ack()), new_seen.syn_ack());
  // A connection that was translated already, opened anew, is measured in its clients' numbers,
  // too.
  const Conversation anew{numbers(500, 600)};
  const Conversation anew_on_first{numbers(7'000, 8'000)};
  EXPECT_THAT(second.reference(first.from_guest(anew_on_first.syn_ack())), IsEmpty());
  EXPECT_EQ(second.from_guest(anew.syn_ack()), anew_on_first.syn_ack());

  // The second failover.
  second.translator.learn(false);
  EXPECT_EQ(second.from_guest(new_own.data(0, "more")), new_seen.data(0, "more"));
  EXPECT_EQ(second.to_guest(new_seen.peer_data(4)), new_own.peer_data(4));
  EXPECT_EQ(second.from_guest(anew.data(0, "more")), anew_on_first.data(0, "more"));
}

TEST(FilterRewriterWeakness, OffsetsOfTwoFailoversAddUp) {
  // A connection that was opened in the first secondary VM, and whose SYN-ACK is repeated while the
  // second one, loaded from it, listens: the reference is in the clients' numbers.
  const Conversation own{kOwn};
  const Conversation seen{kSeen};
  Proxy first;
  first.begin_epoch();
  first.learn(own, seen);
  first.translator.learn(false);
  Proxy second;
  second.translator.reset(first.translator.table());
  second.translator.learn(true);
  const auto repeated = first.from_guest(own.syn_ack(1000));
  EXPECT_EQ(repeated, seen.syn_ack(1000));
  EXPECT_THAT(second.reference(repeated), IsEmpty());
  EXPECT_EQ(second.from_guest(own.syn_ack(1000)), repeated);
  EXPECT_EQ(second.translator.table(), first.translator.table());
}

TEST_F(LearnedConnection, IsTranslatedUntilTheNextCheckpoint) {
  EXPECT_EQ(proxy_.from_guest(own_.data(0, "hello")), seen_.data(0, "hello"));
  EXPECT_EQ(proxy_.to_guest(seen_.peer_data(5)), own_.peer_data(5));
  EXPECT_EQ(proxy_.translator.counters().learned_flows, 1u);
  EXPECT_EQ(proxy_.translator.counters().translated_frames, 3u);
  proxy_.begin_epoch();
  EXPECT_EQ(proxy_.from_guest(seen_.data(0, "hello")), seen_.data(0, "hello"));
}

/// An acknowledgement with `blocks` from the peer of `conversation`.
Bytes with_sack(const Conversation& conversation, std::size_t blocks, bool aligned) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> edges;
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const auto left = conversation.vm.isn + 3000 + i * 2896;
    edges.emplace_back(left, left + 1448);
  }
  Bytes options = timestamp_option(kClient.clock + 30, conversation.vm.clock + 10);
  if (aligned) options = options + nop_option(2);
  return conversation.from_peer({.seq = kClient.isn + 1,
                                 .ack = conversation.vm.isn + 1449,
                                 .flags = ack,
                                 .options = options + sack_option(edges)});
}

TEST(FilterRewriterWeakness, SackBlocksAreTranslated) {
  for (const auto& link : {Link{}, ipv6(), vlan(link_of(Checksum::partial))}) {
    Proxy proxy;
    proxy.begin_epoch();
    const Conversation own{kOwn, link};
    const Conversation seen{kSeen, link};
    proxy.learn(own, seen);
    for (const bool aligned : {true, false}) {
      for (const std::size_t blocks : {1u, 2u, 3u}) {
        EXPECT_EQ(proxy.to_guest(with_sack(seen, blocks, aligned)),
                  with_sack(own, blocks, aligned));
      }
    }
    // What the guest acknowledges selectively is its peer's, in the peer's numbers.
    const Tcp guest{.seq = kOwn.isn + 1,
                    .ack = kClient.isn + 1,
                    .flags = ack,
                    .options = sack_option({{kClient.isn + 100, kClient.isn + 200}})};
    auto client = guest;
    client.seq = kSeen.isn + 1;
    EXPECT_EQ(proxy.from_guest(own.from_guest(guest)), seen.from_guest(client));
  }
}

TEST(FilterRewriterWeakness, TimestampsAreTranslated) {
  // The same sequence numbers, other clocks.
  const Conversation own{numbers(kSeen.isn, kOwn.clock)};
  const Conversation seen{kSeen};
  Proxy proxy;
  proxy.begin_epoch();
  proxy.learn(own, seen);
  EXPECT_THAT(proxy.translator.table(),
              ElementsAre(Translation{own.flow(), {0, kSeen.clock - kOwn.clock}}));
  EXPECT_EQ(proxy.from_guest(own.data(0, "hello")), seen.data(0, "hello"));
  EXPECT_EQ(proxy.to_guest(seen.peer_data(5)), own.peer_data(5));
}

TEST(FilterRewriterWeakness, ASynAckBehindTheReferenceIsMeasuredAgainstIt) {
  // The client's ACK comes when it may; only the two SYN-ACKs count, in whatever order.
  for (const bool reference_first : {true, false}) {
    Proxy proxy;
    proxy.begin_epoch();
    const Conversation own{kOwn};
    const Conversation seen{kSeen};
    Bytes out;
    if (reference_first) out += proxy.reference(seen.syn_ack());
    EXPECT_THAT(out, IsEmpty());
    EXPECT_EQ(proxy.to_guest(seen.peer_flags(ack)), seen.peer_flags(ack));
    out += proxy.from_guest(own.syn_ack());
    if (!reference_first) out += proxy.reference(seen.syn_ack());
    EXPECT_EQ(out, seen.syn_ack());
    EXPECT_THAT(proxy.translator.table(), ElementsAre(Translation{own.flow(), kOffsets}));
    EXPECT_EQ(proxy.to_guest(seen.peer_data(0)), own.peer_data(0));
  }
}

TEST(FilterRewriterWeakness, NumbersNearTheWrapAreTranslated) {
  const std::vector<Numbers> all{
      numbers(0, 0), numbers(0xffff'ffff, 0xffff'ffff), numbers(0xffff'fffe, 0xffff'fff8),
      numbers(0x7fff'ffff, 0x8000'0000), numbers(0x8000'0000, 0x7fff'ffff)};
  for (const auto& one : all) {
    for (const auto& other : all) {
      if (one.isn == other.isn) continue;
      const Conversation own{one};
      const Conversation seen{other};
      Proxy proxy;
      proxy.begin_epoch();
      proxy.learn(own, seen);
      // The payload reaches over the end of the numbers.
      EXPECT_EQ(proxy.from_guest(own.data(0, pattern(5000), 1448)),
                seen.data(0, pattern(5000), 1448));
      EXPECT_EQ(proxy.to_guest(with_sack(seen, 3, true)), with_sack(own, 3, true));
      EXPECT_EQ(proxy.to_guest(seen.peer_data(5000)), own.peer_data(5000));
    }
  }
}

// ---- What passes unchanged

TEST(Translator, PassesABatchWithoutALookWhileNothingNeedsTranslating) {
  Proxy proxy;
  EXPECT_TRUE(proxy.translator.idle());
  const auto garbage = bytes_of("these are no frames");
  EXPECT_EQ(proxy.translator.counters().unparsable_frames, 0u);
  Bytes out = bytes_of("before ");
  proxy.translator.from_guest(garbage, out, kStart);
  proxy.translator.to_guest(garbage, out, kStart);
  EXPECT_EQ(out, bytes_of("before these are no framesthese are no frames"));
  EXPECT_EQ(proxy.translator.counters().unparsable_frames, 0u) << "it was looked at";
  proxy.translator.learn(true);
  EXPECT_FALSE(proxy.translator.idle());
  proxy.translator.learn(false);
  EXPECT_TRUE(proxy.translator.idle());
}

TEST_F(LearnedConnection, LeavesOtherFlowsAndProtocolsAsTheyAre) {
  Conversation other = own_;
  other.peer_port = 40001;
  Link elsewhere;
  elsewhere.destination = "10.0.0.9";
  const std::vector<Bytes> frames{other.data(0, "another port"),
                                  tcp({.payload = "another address"}, elsewhere),
                                  tcp({.payload = "another VLAN"}, vlan()),
                                  udp({.payload = "a datagram"}),
                                  icmp(),
                                  arp(),
                                  ip(47, "GRE"),
                                  fragment(6, 8, true, pattern(64)),
                                  ethernet(0x88cc, "LLDP")};
  const auto translated = proxy_.translator.counters().translated_frames;
  for (const auto& frame : frames) {
    EXPECT_EQ(proxy_.from_guest(frame), frame);
    EXPECT_EQ(proxy_.to_guest(frame), frame);
  }
  EXPECT_EQ(proxy_.translator.counters().translated_frames, translated);
}

TEST_F(LearnedConnection, KeepsFramesOfABatchInOrder) {
  const auto before = udp({.payload = "before"});
  const auto after = arp();
  EXPECT_EQ(proxy_.from_guest(before + own_.data(0, "a") + own_.data(1, "b") + after),
            before + seen_.data(0, "a") + seen_.data(1, "b") + after);
  EXPECT_EQ(proxy_.to_guest(before + seen_.peer_data(0) + after + seen_.peer_data(1)),
            before + own_.peer_data(0) + after + own_.peer_data(1));
}

TEST_F(LearnedConnection, WhatCannotBeParsedPassesAndIsCounted) {
  auto cut = own_.data(0, "hello");
  cut.resize(60);
  store_be(cut.data(), static_cast<std::uint32_t>(cut.size() - 8));
  EXPECT_EQ(proxy_.from_guest(cut), cut);
  EXPECT_EQ(proxy_.to_guest(cut), cut);
  EXPECT_EQ(proxy_.translator.counters().unparsable_frames, 2u);
  const auto torn = seen_.data(0, "hello") + bytes_of("no");
  Bytes out;
  proxy_.translator.from_guest(own_.data(0, "hello") + bytes_of("no"), out, kStart);
  EXPECT_EQ(out, torn);
  EXPECT_EQ(proxy_.translator.counters().unparsable_frames, 3u);
}

TEST_F(LearnedConnection, AnAcknowledgementAndAnEchoWithoutTheFlagAreLeftAlone) {
  const auto reset = [](const Conversation& conversation) {
    return conversation.from_peer({.seq = kClient.isn + 1,
                                   .ack = 123,
                                   .flags = rst,
                                   .options = timestamp_option(kClient.clock, 456)});
  };
  EXPECT_EQ(proxy_.to_guest(reset(seen_)), reset(own_));
}

TEST_F(LearnedConnection, AnEchoOfZeroIsNoEcho) {
  const auto keepalive = [](const Conversation& conversation) {
    return conversation.from_peer({.seq = kClient.isn,
                                   .ack = conversation.vm.isn + 1,
                                   .flags = ack,
                                   .options = timestamp_option(kClient.clock, 0)});
  };
  EXPECT_EQ(proxy_.to_guest(keepalive(seen_)), keepalive(own_));
}

TEST(Translator, AConnectionWithoutTimestampsHasNoOffsetOfThem) {
  Proxy proxy;
  proxy.begin_epoch();
  const auto plain = [](std::uint32_t isn) {
    return tcp(
        {.seq = isn, .ack = kClient.isn + 1, .flags = syn | ack, .options = mss_option(1460)});
  };
  EXPECT_THAT(proxy.reference(plain(700)), IsEmpty());
  EXPECT_EQ(proxy.from_guest(plain(100)), plain(700));
  const auto table = proxy.translator.table();
  ASSERT_EQ(table.size(), 1u);
  EXPECT_EQ(table[0].offsets, (Offsets{600, 0}));
  // One side alone is nothing to measure by.
  proxy.begin_epoch();
  const Conversation own{kOwn};
  EXPECT_THAT(proxy.reference(plain(kOwn.isn + 5)), IsEmpty());
  EXPECT_FALSE(proxy.from_guest(own.syn_ack()).empty());
  ASSERT_EQ(proxy.translator.size(), 1u);
  EXPECT_EQ(proxy.translator.table()[0].offsets, (Offsets{5, 0}));
}

// ---- Learning

TEST(TranslatorLearns, ASynWaitsForItsReference) {
  Proxy proxy;
  proxy.begin_epoch();
  const Conversation own{kOwn};
  const Conversation seen{kSeen};
  EXPECT_THAT(proxy.from_guest(own.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.translator.counters().held_frames, 1u);
  // What follows is not kept back, nor translated.
  EXPECT_EQ(proxy.from_guest(own.data(0, "hello")), own.data(0, "hello"));
  EXPECT_EQ(proxy.to_guest(own.peer_data(5)), own.peer_data(5));
  EXPECT_EQ(proxy.reference(seen.syn_ack()), seen.syn_ack());
  EXPECT_EQ(proxy.from_guest(own.data(0, "hello")), seen.data(0, "hello"));
  EXPECT_THAT(proxy.reference(seen.syn_ack()), IsEmpty()) << "it was let go once";
}

TEST(TranslatorLearns, NumbersThatAreTheSameNeedNoTranslation) {
  Proxy proxy;
  proxy.begin_epoch();
  const Conversation same{kOwn};
  EXPECT_THAT(proxy.from_guest(same.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.reference(same.syn_ack()), same.syn_ack());
  EXPECT_EQ(proxy.translator.size(), 0u);
  EXPECT_EQ(proxy.translator.counters().learned_flows, 0u);
  EXPECT_EQ(proxy.from_guest(same.syn_ack(1000)), same.syn_ack(1000)) << "sent again";
}

TEST(TranslatorLearns, AReferenceAloneChangesNothing) {
  Proxy proxy;
  proxy.begin_epoch();
  const Conversation seen{kSeen};
  EXPECT_THAT(proxy.reference(seen.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.translator.size(), 0u);
  EXPECT_EQ(proxy.from_guest(seen.data(0, "hello")), seen.data(0, "hello"));
  EXPECT_EQ(proxy.to_guest(seen.peer_data(5)), seen.peer_data(5));
}

TEST(TranslatorLearns, OfSynsThatWaitTheNewestIsLetGo) {
  Proxy proxy;
  proxy.begin_epoch();
  const Conversation own{kOwn};
  const Conversation seen{kSeen};
  EXPECT_THAT(proxy.from_guest(own.syn_ack() + own.syn_ack(1000)), IsEmpty());
  EXPECT_EQ(proxy.translator.counters().held_frames, 2u);
  // Both were sent first at the same time: the clocks are measured from there.
  EXPECT_EQ(proxy.reference(seen.syn_ack()), seen.syn_ack(1000));
  EXPECT_THAT(proxy.translator.table(), ElementsAre(Translation{own.flow(), kOffsets}));
}

TEST_F(LearnedConnection, ASynThatIsSentAgainKeepsTheOffsets) {
  EXPECT_EQ(proxy_.from_guest(own_.syn_ack(3000)), seen_.syn_ack(3000));
  EXPECT_THAT(proxy_.reference(seen_.syn_ack(5000)), IsEmpty());
  EXPECT_EQ(proxy_.from_guest(own_.syn_ack(7000)), seen_.syn_ack(7000));
  EXPECT_THAT(proxy_.translator.table(), ElementsAre(Translation{own_.flow(), kOffsets}));
}

constexpr Numbers kOwnAnew{123'456, 71'000};
constexpr Numbers kSeenAnew{654'321, 905'000};

Bytes anew_syn_ack(const Conversation& conversation) {
  return conversation.from_guest({.seq = conversation.vm.isn,
                                  .ack = 99'001,
                                  .flags = syn | ack,
                                  .options = syn_options(conversation.vm.clock, 1)});
}

TEST_F(LearnedConnection, ANewOneOnTheSameAddressesStartsAnewWithTheVmsSyn) {
  const auto own = own_.with(kOwnAnew);
  const auto seen = seen_.with(kSeenAnew);
  EXPECT_THAT(proxy_.from_guest(anew_syn_ack(own)), IsEmpty()) << "the reference is the old one's";
  EXPECT_EQ(proxy_.translator.size(), 0u);
  EXPECT_EQ(proxy_.from_guest(own.data(0, "x")), own.data(0, "x"));
  EXPECT_EQ(proxy_.reference(anew_syn_ack(seen)), anew_syn_ack(seen));
  EXPECT_EQ(proxy_.from_guest(own.data(0, "x")), seen.data(0, "x"));
  EXPECT_EQ(proxy_.translator.size(), 1u);
}

TEST_F(LearnedConnection, ANewOneOnTheSameAddressesStartsAnewWithTheReference) {
  const auto own = own_.with(kOwnAnew);
  const auto seen = seen_.with(kSeenAnew);
  EXPECT_THAT(proxy_.reference(anew_syn_ack(seen)), IsEmpty());
  EXPECT_EQ(proxy_.translator.size(), 0u);
  EXPECT_EQ(proxy_.from_guest(anew_syn_ack(own)), anew_syn_ack(seen));
  EXPECT_EQ(proxy_.from_guest(own.data(0, "x")), seen.data(0, "x"));
}

TEST_F(LearnedConnection, ASynAckThatLagsBehindANewReferenceIsNotMeasuredAgainstIt) {
  // The primary VM has answered another SYN of the client already; this VM repeats its answer to
  // the first one.
  EXPECT_THAT(proxy_.reference(anew_syn_ack(seen_.with(kSeenAnew))), IsEmpty());
  EXPECT_THAT(proxy_.from_guest(own_.syn_ack(1000)), IsEmpty());
  EXPECT_EQ(proxy_.translator.size(), 0u);
  EXPECT_EQ(proxy_.from_guest(anew_syn_ack(own_.with(kOwnAnew))),
            anew_syn_ack(seen_.with(kSeenAnew)));
  EXPECT_THAT(proxy_.reference(seen_.syn_ack(2000)), IsEmpty()) << "the old one is given up";
}

TEST(TranslatorLearns, AGuestThatOpensAConnectionAgainIsMeasuredAnew) {
  for (const bool reference_first : {true, false}) {
    Proxy proxy;
    proxy.begin_epoch();
    const Conversation own{kOwn};
    const Conversation seen{kSeen};
    EXPECT_THAT(proxy.from_guest(own.syn_alone()), IsEmpty());
    EXPECT_EQ(proxy.reference(seen.syn_alone()), seen.syn_alone());
    const auto own_anew = own.with(kOwnAnew);
    const auto seen_anew = seen.with(kSeenAnew);
    Bytes out;
    if (reference_first) out += proxy.reference(seen_anew.syn_alone());
    out += proxy.from_guest(own_anew.syn_alone());
    if (!reference_first) {
      EXPECT_THAT(out, IsEmpty()) << "it was measured against the old connection's reference";
      out += proxy.reference(seen_anew.syn_alone());
    }
    EXPECT_EQ(out, seen_anew.syn_alone());
    EXPECT_EQ(proxy.from_guest(own_anew.data(0, "x")), seen_anew.data(0, "x"));
  }
}

TEST(TranslatorLearns, BothEndsMayOpenAConnectionAtOnce) {
  Proxy proxy;
  proxy.begin_epoch();
  const Conversation own{kOwn};
  const Conversation seen{kSeen};
  EXPECT_THAT(proxy.reference(seen.syn_alone() + seen.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.from_guest(own.syn_alone() + own.syn_ack()), seen.syn_alone() + seen.syn_ack());
  EXPECT_THAT(proxy.translator.table(), ElementsAre(Translation{own.flow(), kOffsets}));
  // The VM's SYN may have been sent before the epoch began.
  proxy.begin_epoch();
  EXPECT_THAT(proxy.reference(seen.syn_alone() + seen.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.from_guest(own.syn_ack()), seen.syn_ack());
}

TEST(TranslatorLearns, OnlySynsAreReferences) {
  Proxy proxy;
  proxy.begin_epoch();
  const Conversation own{kOwn};
  const Conversation seen{kSeen};
  EXPECT_THAT(proxy.reference(seen.data(0, "hello") + seen.guest_flags(syn | rst | ack) + udp()),
              IsEmpty());
  EXPECT_THAT(proxy.from_guest(own.syn_ack()), IsEmpty());
  EXPECT_THAT(proxy.reference(seen.data(0, "hello")), IsEmpty());
  EXPECT_EQ(proxy.reference(seen.syn_ack()), seen.syn_ack());
}

TEST(TranslatorLearns, AResetIsNoSynWhateverElseItClaims) {
  Proxy proxy;
  proxy.begin_epoch();
  const Conversation own{kOwn};
  EXPECT_EQ(proxy.from_guest(own.guest_flags(syn | rst)), own.guest_flags(syn | rst));
}

TEST(TranslatorLearns, ALoadedConnectionThatIsOpenedAnewIsMeasuredAnew) {
  const Conversation own{kOwn};
  const Conversation seen{kSeen};
  Proxy proxy;
  proxy.translator.reset({{own.flow(), {1, 2}}});
  proxy.translator.learn(true);
  EXPECT_THAT(proxy.from_guest(own.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.reference(seen.syn_ack()), seen.syn_ack());
  EXPECT_THAT(proxy.translator.table(), ElementsAre(Translation{own.flow(), kOffsets}));
  // To the same numbers as its client's: then it needs no translation any more.
  proxy.translator.reset({{own.flow(), {1, 2}}});
  EXPECT_THAT(proxy.reference(own.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.from_guest(own.syn_ack()), own.syn_ack());
  EXPECT_THAT(proxy.translator.table(), IsEmpty());
}

TEST_F(LearnedConnection, ACheckpointForgetsWhatWaitsAndKeepsItsTable) {
  Conversation loaded{numbers(10, 20), {}, 40001};
  Conversation waiting{kOwn, {}, 40002};
  Conversation reference{kSeen, {}, 40003};
  EXPECT_THAT(proxy_.from_guest(waiting.syn_ack()), IsEmpty());
  EXPECT_THAT(proxy_.reference(reference.syn_ack()), IsEmpty());
  proxy_.translator.reset({{loaded.flow(), {5, 6}}});
  EXPECT_THAT(proxy_.translator.table(), ElementsAre(Translation{loaded.flow(), {5, 6}}));
  EXPECT_THAT(proxy_.reference(waiting.with(kSeen).syn_ack()), IsEmpty());
  EXPECT_THAT(proxy_.from_guest(reference.with(kOwn).syn_ack()), IsEmpty());
  EXPECT_EQ(proxy_.from_guest(loaded.data(0, "x")), loaded.with(numbers(15, 26)).data(0, "x"));
}

TEST_F(LearnedConnection, StaysWhenLearningEnds) {
  Conversation waiting{kOwn, {}, 40002};
  EXPECT_THAT(proxy_.from_guest(waiting.syn_ack()), IsEmpty());
  proxy_.translator.learn(false);
  EXPECT_EQ(proxy_.from_guest(own_.data(0, "hello")), seen_.data(0, "hello"));
  EXPECT_EQ(proxy_.from_guest(own_.syn_ack(9)), seen_.syn_ack(9)) << "a SYN that is sent again";
  // New connections have the numbers that clients see.
  EXPECT_EQ(proxy_.from_guest(waiting.syn_ack()), waiting.syn_ack());
  EXPECT_THAT(proxy_.reference(waiting.with(kSeen).syn_ack()), IsEmpty());
  proxy_.translator.learn(true);
  EXPECT_THAT(proxy_.from_guest(waiting.syn_ack(1)), IsEmpty())
      << "a reference is none while nothing is learned";
  proxy_.translator.learn(false);
  proxy_.translator.learn(true);
  EXPECT_THAT(proxy_.reference(waiting.with(kSeen).syn_ack()), IsEmpty())
      << "what waited was forgotten";
  EXPECT_EQ(proxy_.translator.size(), 1u);
}

// ---- Limits

/// SYN-ACK `i` of many flows.
Conversation flow_number(std::size_t i, Numbers vm) {
  Conversation conversation{vm};
  conversation.link.destination = "10.1." + std::to_string(i >> 8 & 0xff) + ".1";
  conversation.link.destination_mac = "52:54:00:00:00:09";
  conversation.peer_port = static_cast<std::uint16_t>(1024 + (i & 0xff) + (i >> 16 << 8));
  return conversation;
}

TEST(TranslatorLimits, NoMoreSynsWaitThanTheirNumberAllows) {
  Proxy proxy;
  proxy.begin_epoch();
  for (std::size_t i = 0; i < held_frames_max; ++i) {
    ASSERT_THAT(proxy.from_guest(flow_number(i, kOwn).syn_ack()), IsEmpty());
  }
  const auto one_more = flow_number(held_frames_max, kOwn);
  EXPECT_EQ(proxy.from_guest(one_more.syn_ack()), one_more.syn_ack());
  EXPECT_EQ(proxy.translator.counters().refused_flows, 1u);
  EXPECT_EQ(proxy.translator.counters().held_frames, held_frames_max);
  // One that waits already may be replaced, and one that goes makes room.
  EXPECT_THAT(proxy.from_guest(flow_number(0, kOwn).syn_ack(1)), IsEmpty());
  EXPECT_EQ(proxy.reference(flow_number(0, kSeen).syn_ack()), flow_number(0, kSeen).syn_ack(1));
  EXPECT_THAT(proxy.from_guest(one_more.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.translator.counters().refused_flows, 1u);
  proxy.begin_epoch();
  EXPECT_THAT(proxy.from_guest(one_more.syn_ack()), IsEmpty()) << "a checkpoint makes room";
}

TEST(TranslatorLimits, NoMoreBytesOfSynsWaitThanAllowed) {
  Proxy proxy;
  proxy.begin_epoch();
  const auto fat_syn = [](std::size_t i) {
    return flow_number(i, kOwn).from_guest(
        {.seq = 1, .ack = 0, .flags = syn, .payload = pattern(60'000)});
  };
  const auto room = held_bytes_max / fat_syn(0).size();
  for (std::size_t i = 0; i < room; ++i) {
    ASSERT_THAT(proxy.from_guest(fat_syn(i)), IsEmpty());
  }
  EXPECT_EQ(proxy.from_guest(fat_syn(room)), fat_syn(room));
  EXPECT_EQ(proxy.translator.counters().refused_flows, 1u);
  EXPECT_EQ(proxy.reference(fat_syn(0)), fat_syn(0));
  EXPECT_THAT(proxy.from_guest(fat_syn(room)), IsEmpty());
}

TranslationTable table_of(std::size_t size) {
  TranslationTable table;
  Translation translation{Conversation{kOwn}.flow(), kOffsets};
  for (std::size_t i = 0; i < size; ++i) {
    translation.flow.peer_port = static_cast<std::uint16_t>(i);
    translation.flow.peer[15] = static_cast<std::byte>(i >> 16);
    table.push_back(translation);
  }
  return table;
}

TEST(TranslatorLimits, BeyondItsTableFlowsAreLeftUntranslatedAndCounted) {
  Proxy proxy;
  proxy.translator.reset(table_of(translations_max));
  proxy.translator.learn(true);
  EXPECT_EQ(proxy.translator.size(), translations_max);
  EXPECT_EQ(proxy.translator.counters().refused_flows, 0u);
  const Conversation own{kOwn, ipv6()};
  const Conversation seen{kSeen, ipv6()};
  EXPECT_THAT(proxy.reference(seen.syn_ack()), IsEmpty());
  EXPECT_EQ(proxy.from_guest(own.syn_ack()), own.syn_ack());
  EXPECT_EQ(proxy.from_guest(own.data(0, "x")), own.data(0, "x"));
  EXPECT_EQ(proxy.translator.counters().refused_flows, 1u);
  EXPECT_EQ(proxy.translator.counters().learned_flows, 0u);
  EXPECT_EQ(proxy.translator.size(), translations_max);
  proxy.translator.reset(table_of(translations_max + 3));
  EXPECT_EQ(proxy.translator.size(), translations_max);
  EXPECT_EQ(proxy.translator.counters().refused_flows, 4u);
}

TEST(TranslatorLimits, NoMoreReferencesAreRememberedThanTheTableHolds) {
  Proxy proxy;
  proxy.begin_epoch();
  Bytes batch;
  for (std::size_t i = 0; i <= translations_max; ++i) {
    batch = flow_number(i, kSeen).syn_ack();
    Bytes out;
    proxy.translator.reference(batch, out, kStart);
    ASSERT_THAT(out, IsEmpty());
  }
  EXPECT_EQ(proxy.translator.counters().refused_flows, 1u);
  const auto last = flow_number(translations_max, kOwn);
  EXPECT_EQ(proxy.from_guest(last.syn_ack()), last.syn_ack()) << "it would wait for nothing";
}

// ---- The end of connections

/// The table's connection, as after a failover: no SYN of it has been seen.
class LoadedConnection : public testing::Test {
 protected:
  LoadedConnection() { proxy_.translator.reset({{own_.flow(), kOffsets}}); }
  Proxy proxy_;
  Conversation own_{kOwn};
  Conversation seen_{kSeen};
};

TEST_F(LoadedConnection, IsTranslatedAlsoWhileNothingIsLearned) {
  EXPECT_EQ(proxy_.from_guest(own_.data(0, "hello")), seen_.data(0, "hello"));
  EXPECT_EQ(proxy_.to_guest(seen_.peer_data(5)), own_.peer_data(5));
}

TEST_F(LoadedConnection, WithoutOffsetsNeedsNoTranslation) {
  proxy_.translator.reset({{own_.flow(), {}}});
  EXPECT_TRUE(proxy_.translator.idle());
}

TEST_F(LoadedConnection, EndsWithAResetOfTheGuest) {
  EXPECT_EQ(proxy_.from_guest(own_.guest_flags(rst | ack)), seen_.guest_flags(rst | ack));
  EXPECT_EQ(proxy_.translator.size(), 1u) << "only a sweep forgets";
  proxy_.sweep_after(0ms);
  EXPECT_EQ(proxy_.translator.size(), 0u);
  EXPECT_TRUE(proxy_.translator.idle());
}

TEST_F(LoadedConnection, EndsWithAResetOfThePeer) {
  EXPECT_EQ(proxy_.to_guest(seen_.peer_flags(rst)), own_.peer_flags(rst));
  proxy_.sweep_after(0ms);
  EXPECT_TRUE(proxy_.translator.idle());
}

TEST_F(LoadedConnection, LivesOnIfTheGuestDoesNotTakeTheReset) {
  proxy_.to_guest(seen_.peer_flags(rst));
  EXPECT_EQ(proxy_.from_guest(own_.data(0, "hello")), seen_.data(0, "hello"));
  proxy_.sweep_after(1h);
  EXPECT_EQ(proxy_.translator.size(), 1u);
}

TEST_F(LoadedConnection, EndsAMinuteAfterItWasClosedBothWays) {
  proxy_.from_guest(own_.guest_flags(fin | ack));
  proxy_.sweep_after(1h);
  EXPECT_EQ(proxy_.translator.size(), 1u) << "half open";
  proxy_.to_guest(seen_.peer_flags(fin | ack));
  proxy_.sweep_after(time_wait - 1ms);
  EXPECT_EQ(proxy_.translator.size(), 1u);
  // The peer missed the last acknowledgement and closes again: so the wait begins again.
  EXPECT_EQ(proxy_.to_guest(seen_.peer_flags(fin | ack)), own_.peer_flags(fin | ack));
  proxy_.sweep_after(time_wait - 1ms);
  EXPECT_EQ(proxy_.from_guest(own_.guest_flags(ack)), seen_.guest_flags(ack));
  proxy_.sweep_after(1ms);
  EXPECT_EQ(proxy_.translator.size(), 0u);
}

TEST_F(LoadedConnection, IsNotClosedByTwoFinsOfOneSide) {
  proxy_.to_guest(seen_.peer_flags(fin | ack));
  proxy_.to_guest(seen_.peer_flags(fin | ack));
  proxy_.sweep_after(1h);
  EXPECT_EQ(proxy_.translator.size(), 1u);
  proxy_.from_guest(own_.guest_flags(fin | ack));
  proxy_.sweep_after(time_wait / 2);
  EXPECT_EQ(proxy_.translator.size(), 1u);
  proxy_.sweep_after(time_wait / 2);
  EXPECT_EQ(proxy_.translator.size(), 0u);
}

TEST_F(LoadedConnection, IsForgottenAtOnceWhenItsPeerOpensItAgainAfterItsEnd) {
  proxy_.to_guest(seen_.peer_flags(rst));
  EXPECT_EQ(proxy_.to_guest(seen_.peer_syn(1)), seen_.peer_syn(1));
  EXPECT_EQ(proxy_.translator.size(), 0u);
  proxy_.translator.reset({{own_.flow(), kOffsets}});
  proxy_.from_guest(own_.guest_flags(fin | ack));
  proxy_.to_guest(seen_.peer_flags(fin | ack));
  EXPECT_EQ(proxy_.to_guest(seen_.peer_syn(1)), seen_.peer_syn(1));
  EXPECT_EQ(proxy_.translator.size(), 0u);
}

TEST_F(LoadedConnection, SurvivesAStraySynOfItsPeer) {
  EXPECT_EQ(proxy_.to_guest(seen_.peer_syn(1)), seen_.peer_syn(1));
  // The guest, which knows the connection, acknowledges what it has (RFC 5961).
  EXPECT_EQ(proxy_.from_guest(own_.guest_flags(ack)), seen_.guest_flags(ack));
  EXPECT_EQ(proxy_.from_guest(own_.data(0, "hello")), seen_.data(0, "hello"));
}

TEST_F(LoadedConnection, IsForgottenAtOnceWhenTheVmAnswersANewSyn) {
  proxy_.to_guest(seen_.peer_syn(1));
  const auto anew = own_.with(kOwnAnew);
  EXPECT_EQ(proxy_.from_guest(anew.syn_ack()), anew.syn_ack());
  EXPECT_EQ(proxy_.translator.size(), 0u);
  EXPECT_EQ(proxy_.from_guest(anew.data(0, "x")), anew.data(0, "x"));
}

TEST_F(LoadedConnection, IsForgottenAtOnceWhenTheVmOpensItAnew) {
  const auto anew = own_.with(kOwnAnew);
  EXPECT_EQ(proxy_.from_guest(anew.syn_alone()), anew.syn_alone());
  EXPECT_EQ(proxy_.translator.size(), 0u);
}

TEST_F(LoadedConnection, SurvivesThatItsSynAckIsSentAgain) {
  // No SYN has come since the load, so this answers one from before.
  EXPECT_EQ(proxy_.from_guest(own_.syn_ack(1000)), seen_.syn_ack(1000));
  EXPECT_EQ(proxy_.translator.size(), 1u);
}

TEST_F(LearnedConnection, AfterAFailoverIsForgottenAtOnceWhenTheVmSendsANewSyn) {
  proxy_.translator.learn(false);
  const auto anew = own_.with(kOwnAnew);
  EXPECT_EQ(proxy_.from_guest(anew_syn_ack(anew)), anew_syn_ack(anew));
  EXPECT_EQ(proxy_.translator.size(), 0u);
}

// ---- The table

TEST(TranslationTable, IsReadAsItWasWritten) {
  TranslationTable table = table_of(3);
  table.push_back({Conversation{kOwn, ipv6()}.flow(), {0, 1}});
  table.push_back({Conversation{kOwn, vlan()}.flow(), {0xffff'ffff, 0}});
  for (const auto& written : {table, TranslationTable{}}) {
    const auto read = decode_translations(encode(written));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, written);
  }
}

TEST(TranslationTable, HasTheDocumentedForm) {
  TranslationTable table = table_of(1);
  table[0].flow.guest.fill(std::byte{0xaa});
  table[0].flow.peer.fill(std::byte{0xbb});
  table[0].flow.guest_port = 0x0102;
  table[0].flow.peer_port = 0x0304;
  table[0].flow.vlan = 0x0506;
  table[0].offsets = {0x0708090a, 0x0b0c0d0e};
  EXPECT_EQ(encode(table), from_hex("54 01 00 00 00 01") + Bytes(16, std::byte{0xaa}) +
                               Bytes(16, std::byte{0xbb}) +
                               from_hex("01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e"));
}

TEST(TranslationTable, CutOrLengthenedItIsRefused) {
  auto bytes = encode(table_of(2));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto read = decode_translations(std::span(bytes).first(length));
    ASSERT_FALSE(read) << length;
    EXPECT_EQ(read.error().code, Errc::protocol);
  }
  bytes.push_back(std::byte{0});
  EXPECT_EQ(decode_translations(bytes).error().code, Errc::protocol);
}

TEST(TranslationTable, OfAnotherVersionItIsRefused) {
  auto bytes = encode(table_of(1));
  store_be(bytes.data(), std::uint16_t{0x5402});
  const auto read = decode_translations(bytes);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::protocol);
  EXPECT_THAT(read.error().message, HasSubstr(std::to_string(0x5402)));
}

TEST(TranslationTable, AtItsLimitItIsReadAndBeyondRefused) {
  const auto largest = encode(table_of(translations_max));
  EXPECT_EQ(largest.size(), encoded_translations_max);
  const auto read = decode_translations(largest);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->size(), translations_max);
  auto beyond = encode({});
  store_be(beyond.data() + 2, static_cast<std::uint32_t>(translations_max + 1));
  const auto refused = decode_translations(beyond);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::limit);
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(translations_max + 1)));
}

TEST(TranslationTable, WithAConnectionTwiceItIsRefused) {
  auto table = table_of(3);
  table[2].flow = table[0].flow;
  table[2].offsets = {1, 1};
  const auto read = decode_translations(encode(table));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::protocol);
  EXPECT_THAT(read.error().message, HasSubstr(to_string(table[0].flow)));
}

TEST(TranslationTable, WithAConnectionThatNeedsNoTranslationItIsRefused) {
  auto table = table_of(1);
  table[0].offsets = {};
  const auto read = decode_translations(encode(table));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::protocol);
}

}  // namespace
}  // namespace tandem::proxy
