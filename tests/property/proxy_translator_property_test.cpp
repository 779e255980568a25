// Properties of the translator over random conversations of two VMs with one client, and over
// garbage.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "proxy/translator.hpp"
#include "tests/unit/packet_builder.hpp"

namespace tandem::proxy {
namespace {

using namespace test;
using namespace tcp_flag;

constexpr Translator::Time kNow{};

/// What one VM draws for a connection.
struct Numbers {
  std::uint32_t isn = 0;
  std::uint32_t clock = 0;
};

std::uint32_t any_number() {
  // Near the ends of the number space most is decided.
  const auto near = *rc::gen::element<std::uint32_t>(0, 0x7fff'ffff, 0x8000'0000, 0xffff'ffff);
  return *rc::gen::arbitrary<bool>() ? *rc::gen::arbitrary<std::uint32_t>()
                                     : near + *rc::gen::inRange<std::uint32_t>(0, 4000) - 2000;
}

Numbers any_numbers() {
  const auto isn = any_number();
  return {isn, any_number()};
}

Link any_link() {
  Link link;
  link.checksum = *rc::gen::element(Checksum::complete, Checksum::partial, Checksum::valid);
  if (*rc::gen::arbitrary<bool>()) {
    link.source = "fd00::2";
    link.destination = "fd00::1";
  }
  if (*rc::gen::arbitrary<bool>()) link.vlans.resize(*rc::gen::inRange<std::size_t>(1, 3), 0x2042);
  if (*rc::gen::arbitrary<bool>()) link.padding = *rc::gen::inRange<std::size_t>(1, 40);
  return link;
}

/// A segment relative to where both ends began; what a VM or its client sends comes out of it when
/// the VM's numbers are put in.
struct Segment {
  bool from_guest = true;
  std::uint8_t flags = ack;
  std::uint32_t at = 0;                    ///< of the sender
  std::uint32_t acknowledged = 0;          ///< of the receiver
  std::uint32_t time = 0;                  ///< of the sender's clock
  std::optional<std::uint32_t> echo = {};  ///< of the receiver's clock
  std::vector<std::uint32_t> blocks = {};  ///< selectively acknowledged, 100 bytes each
  std::uint32_t payload = 0;
  std::uint16_t gso_size = 0;
};

struct Flow {
  Link link;
  std::uint16_t peer_port = 0;
  bool guest_opens = false;
  bool has_timestamps = true;
  Numbers client, seen, own;

  [[nodiscard]] Bytes build(const Segment& segment, const Numbers& vm) const {
    const auto& sender = segment.from_guest ? vm : client;
    const auto& receiver = segment.from_guest ? client : vm;
    const bool acks = (segment.flags & ack) != 0;
    Tcp built;
    built.seq = sender.isn + segment.at;
    built.ack = acks ? receiver.isn + segment.acknowledged : 0;
    built.flags = segment.flags;
    if (has_timestamps) {
      built.options = timestamp_option(sender.clock + segment.time,
                                       acks && segment.echo ? receiver.clock + *segment.echo : 0);
    }
    std::vector<std::pair<std::uint32_t, std::uint32_t>> edges;
    for (const auto block : segment.blocks) {
      edges.emplace_back(receiver.isn + block, receiver.isn + block + 100);
    }
    if (!edges.empty()) built.options = built.options + sack_option(edges);
    built.payload = pattern(segment.payload, segment.at);
    built.gso_size = segment.gso_size;
    built.destination_port = peer_port;
    return segment.from_guest ? tcp(built, link) : tcp(reversed(built), reversed(link));
  }

  /// An echo of 0 is none, so where it would be one by chance the clock stands a tick later.
  void avoid_echoes_of_zero(const std::vector<Segment>& segments) {
    const auto is_zero = [&](const Segment& segment) {
      return !segment.from_guest && segment.echo &&
             (seen.clock + *segment.echo == 0 || own.clock + *segment.echo == 0);
    };
    while (std::ranges::any_of(segments, is_zero)) {
      ++seen.clock;
      ++own.clock;
    }
  }
};

Flow any_flow(std::size_t i) {
  Flow flow;
  flow.link = any_link();
  flow.peer_port = static_cast<std::uint16_t>(40000 + i);
  flow.guest_opens = *rc::gen::arbitrary<bool>();
  flow.has_timestamps = *rc::gen::arbitrary<bool>();
  flow.client = any_numbers();
  flow.seen = any_numbers();
  flow.own = any_numbers();
  if (*rc::gen::inRange(0, 4) == 0) flow.own = flow.seen;
  return flow;
}

std::vector<Segment> any_segments(const Flow& flow) {
  std::vector<Segment> segments;
  if (flow.guest_opens) {
    segments.push_back({.from_guest = false, .flags = syn | ack, .acknowledged = 1, .echo = 0});
  }
  const auto count = *rc::gen::inRange(1, 12);
  for (int i = 0; i < count; ++i) {
    Segment segment;
    segment.from_guest = *rc::gen::arbitrary<bool>();
    segment.flags = static_cast<std::uint8_t>(ack | *rc::gen::element(0, +psh, +urg, +fin, +rst));
    segment.at = *rc::gen::inRange<std::uint32_t>(1, 100'000);
    segment.acknowledged = *rc::gen::inRange<std::uint32_t>(1, 100'000);
    segment.time = *rc::gen::inRange<std::uint32_t>(0, 10'000);
    if (*rc::gen::arbitrary<bool>()) segment.echo = *rc::gen::inRange<std::uint32_t>(0, 10'000);
    segment.blocks.resize(*rc::gen::inRange<std::size_t>(0, 4));
    for (auto& block : segment.blocks) block = *rc::gen::inRange<std::uint32_t>(1, 1u << 20);
    segment.payload = *rc::gen::inRange<std::uint32_t>(0, 100);
    if (*rc::gen::inRange(0, 4) == 0) {
      segment.payload += 5000;
      segment.gso_size = 1448;
    }
    segments.push_back(segment);
  }
  return segments;
}

/// The frame with its TCP checksum blanked: one sum may be written as 0 and as 0xffff.
Bytes without_checksum(Bytes frame, Direction direction) {
  Packet packet;
  RC_ASSERT(parse(frame, direction, packet) == Malformed::none);
  RC_ASSERT(packet.kind == Kind::tcp);
  RC_ASSERT(checksums_are_right(frame, packet));
  RC_ASSERT(reference_errors(frame).empty());
  store_be(frame.data() + packet.transport + 16, std::uint16_t{0});
  return frame;
}

void check_same(const Bytes& out, const Bytes& expected, Direction direction) {
  RC_ASSERT(without_checksum(out, direction) == without_checksum(expected, direction));
}

/// The SYNs of both VMs, in any order, come out as the client sees them.
void open(Translator& translator, const Flow& flow) {
  Segment first;
  first.flags = flow.guest_opens ? syn : syn | ack;
  first.acknowledged = 1;
  const bool reference_first = *rc::gen::arbitrary<bool>();
  const int repeated = *rc::gen::inRange(0, 3);
  Bytes out;
  if (reference_first) translator.reference(flow.build(first, flow.seen), out, kNow);
  RC_ASSERT(out.empty());
  translator.from_guest(flow.build(first, flow.own), out, kNow);
  auto again = first;
  for (int i = 0; i < repeated; ++i) {
    again.time += 1000;
    translator.from_guest(flow.build(again, flow.own), out, kNow);
  }
  if (!reference_first) translator.reference(flow.build(first, flow.seen), out, kNow);
  const auto frames = split(out);
  RC_ASSERT(frames.size() == (reference_first ? 1u + static_cast<std::size_t>(repeated) : 1u));
  check_same(frames.back(), flow.build(again, flow.seen), Direction::from_guest);
}

RC_GTEST_PROP(TranslatorProperty, AClientSeesOneNumberingAndTheVmItsOwn, ()) {
  Translator translator;
  translator.learn(true);
  std::vector<Flow> flows;
  std::vector<std::vector<Segment>> segments;
  const auto count = *rc::gen::inRange<std::size_t>(1, 4);
  for (std::size_t i = 0; i < count; ++i) {
    flows.push_back(any_flow(i));
    segments.push_back(any_segments(flows.back()));
    flows.back().avoid_echoes_of_zero(segments.back());
  }
  for (const auto& flow : flows) open(translator, flow);
  // Somewhere in between the other host is lost.
  const auto failover = *rc::gen::inRange<std::size_t>(0, 20);
  for (std::size_t done = 0; !flows.empty(); ++done) {
    if (done == failover) translator.learn(false);
    const auto turn = *rc::gen::inRange<std::size_t>(0, flows.size());
    const auto& flow = flows[turn];
    const auto segment = segments[turn].front();
    segments[turn].erase(segments[turn].begin());
    const auto of_vm = flow.build(segment, flow.own);
    const auto of_client = flow.build(segment, flow.seen);
    Bytes out;
    if (segment.from_guest) {
      translator.from_guest(of_vm, out, kNow);
      check_same(out, of_client, Direction::from_guest);
    } else {
      translator.to_guest(of_client, out, kNow);
      check_same(out, of_vm, Direction::to_guest);
    }
    if (segments[turn].empty()) {
      segments.erase(segments.begin() + static_cast<std::ptrdiff_t>(turn));
      flows.erase(flows.begin() + static_cast<std::ptrdiff_t>(turn));
    }
  }
}

Translation translation_of(const Flow& flow, const Offsets& offsets) {
  Packet packet;
  const auto frame = flow.build({}, {});
  RC_ASSERT(parse(frame, Direction::from_guest, packet) == Malformed::none);
  return {packet.key, offsets};
}

RC_GTEST_PROP(TranslatorProperty, TranslatedThereAndBackASegmentIsTheSame, ()) {
  auto flow = any_flow(0);
  const auto segments = any_segments(flow);
  const Offsets offsets{any_number(), any_number()};
  flow.seen = flow.own;
  flow.seen.clock += offsets.timestamp;
  flow.avoid_echoes_of_zero(segments);
  Translator there;
  Translator back;
  there.reset({translation_of(flow, offsets)});
  back.reset({translation_of(flow, {0 - offsets.sequence, 0 - offsets.timestamp})});
  for (const auto& segment : segments) {
    Bytes once;
    Bytes twice;
    if (segment.from_guest) {
      const auto frame = flow.build(segment, flow.own);
      there.from_guest(frame, once, kNow);
      back.from_guest(once, twice, kNow);
      check_same(twice, frame, Direction::from_guest);
    } else {
      const auto frame = flow.build(segment, flow.seen);
      there.to_guest(frame, once, kNow);
      back.to_guest(once, twice, kNow);
      check_same(twice, frame, Direction::to_guest);
      // What the VM is told that it has sent, sent once more, is what the client meant.
      Packet packet;
      RC_ASSERT(parse(once, Direction::to_guest, packet) == Malformed::none);
      const auto stamps = timestamps(once, packet);
      Segment meant = segment;
      meant.from_guest = true;
      meant.blocks.clear();
      meant.flags = ack;
      Numbers vm{packet.ack - meant.at, 0};
      if (stamps && stamps->echo != 0) vm.clock = stamps->echo - meant.time;
      Bytes sent;
      there.from_guest(flow.build(meant, vm), sent, kNow);
      Packet seen;
      RC_ASSERT(parse(sent, Direction::from_guest, seen) == Malformed::none);
      Packet original;
      RC_ASSERT(parse(frame, Direction::to_guest, original) == Malformed::none);
      RC_ASSERT(seen.seq == original.ack);
      if (stamps && stamps->echo != 0) {
        RC_ASSERT(timestamps(sent, seen)->value == timestamps(frame, original)->echo);
      }
    }
  }
}

/// A frame that is right, or was before some of its bytes were changed, or one of random bytes.
Bytes any_garbage(const Flow& flow) {
  if (*rc::gen::inRange(0, 4) == 0) {
    auto content = *rc::gen::container<Bytes>(
        rc::gen::map(rc::gen::arbitrary<std::uint8_t>(), [](auto b) { return std::byte{b}; }));
    content.resize(std::max<std::size_t>(content.size(), 1));
    Bytes frame;
    put32(frame, static_cast<std::uint32_t>(content.size()));
    put32(frame, *rc::gen::element<std::uint32_t>(0, 10, 12, 20, 64, 65, 0xffff'ffff));
    return frame + content;
  }
  Segment segment = any_segments(flow).back();
  segment.payload %= 50;
  segment.flags = *rc::gen::arbitrary<std::uint8_t>();
  auto frame = flow.build(segment, flow.own);
  const auto changes = *rc::gen::inRange(0, 4);
  for (int i = 0; i < changes; ++i) {
    // Behind the length: the stream of frames stays whole.
    const auto at = *rc::gen::inRange<std::size_t>(4, std::min<std::size_t>(frame.size(), 120));
    frame[at] = static_cast<std::byte>(*rc::gen::arbitrary<std::uint8_t>());
  }
  if (*rc::gen::arbitrary<bool>()) {
    frame.resize(*rc::gen::inRange<std::size_t>(9, frame.size() + 1));
    store_be(frame.data(), static_cast<std::uint32_t>(frame.size() - 8));
  }
  return frame;
}

RC_GTEST_PROP(TranslatorProperty, WhatIsNoTcpSegmentOfItsTablePassesUnchanged, ()) {
  const auto flow = any_flow(0);
  Translator translator;
  const auto translation = translation_of(flow, {any_number() | 1, any_number()});
  translator.reset({translation});
  translator.learn(*rc::gen::arbitrary<bool>());
  const auto count = *rc::gen::inRange(1, 20);
  for (int i = 0; i < count; ++i) {
    const auto frame = any_garbage(flow);
    const bool from_guest = *rc::gen::arbitrary<bool>();
    const auto direction = from_guest ? Direction::from_guest : Direction::to_guest;
    Packet packet;
    const bool parsable = parse(frame, direction, packet) == Malformed::none;
    const bool looked_at = from_guest ? !translator.idle() : translator.size() > 0;
    const auto unparsable =
        translator.counters().unparsable_frames + (looked_at && !parsable ? 1 : 0);
    Bytes out;
    if (from_guest) {
      translator.from_guest(frame, out, kNow);
    } else {
      translator.to_guest(frame, out, kNow);
    }
    RC_ASSERT(translator.counters().unparsable_frames == unparsable);
    const bool concerned =
        parsable && packet.kind == Kind::tcp && (packet.key == translation.flow || packet.has(syn));
    if (concerned) {
      RC_ASSERT(out.empty() || out.size() == frame.size());
    } else {
      RC_ASSERT(out == frame);
    }
    Bytes released;
    translator.reference(frame, released, kNow);
    translator.sweep(kNow);
  }
}

TranslationTable any_table() {
  TranslationTable table;
  const auto count = *rc::gen::inRange<std::size_t>(0, 20);
  for (std::size_t i = 0; i < count; ++i) {
    auto flow = any_flow(i);
    auto translation = translation_of(flow, {any_number(), any_number()});
    if (translation.offsets == Offsets{}) translation.offsets.sequence = 1;
    table.push_back(translation);
  }
  return table;
}

RC_GTEST_PROP(TranslatorProperty, ATableIsReadAsItWasWritten, ()) {
  const auto table = any_table();
  const auto read = decode_translations(encode(table));
  RC_ASSERT(read.has_value());
  RC_ASSERT(*read == table);
  Translator translator;
  translator.reset(*read);
  const auto kept = translator.table();
  RC_ASSERT(std::ranges::is_permutation(kept, table));
}

RC_GTEST_PROP(TranslatorProperty, AChangedTableIsRefusedOrAnother, ()) {
  const auto table = any_table();
  auto bytes = encode(table);
  const auto at = *rc::gen::inRange<std::size_t>(0, bytes.size());
  bytes[at] ^= static_cast<std::byte>(*rc::gen::inRange<unsigned>(1, 256));
  const auto read = decode_translations(bytes);
  if (!read) return;
  RC_ASSERT(*read != table);
  RC_ASSERT(encode(*read) == bytes);
}

}  // namespace
}  // namespace tandem::proxy
