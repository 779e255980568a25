// Properties of parsing frames and of the changes to them, over generated and over mangled frames.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "proxy/packet.hpp"
#include "tests/unit/packet_builder.hpp"

namespace tandem::proxy {
namespace {

using namespace test;

/// More frames than rapidcheck's hundred, unless RC_PARAMS says otherwise.
[[maybe_unused]] const int many_frames = ::setenv("RC_PARAMS", "max_success=5000", 0);

template <typename T>
T any() {
  return *rc::gen::arbitrary<T>();
}
template <typename T>
T between(T low, T high) {
  return *rc::gen::inRange<T>(low, high);
}

Direction any_direction() {
  return any<bool>() ? Direction::from_guest : Direction::to_guest;
}

Link any_link() {
  Link link;
  link.vnet = *rc::gen::element(0u, 10u, 12u);
  link.vlans.resize(between<std::size_t>(0, 3));
  for (auto& tag : link.vlans) tag = any<std::uint16_t>();
  link.ip_id = any<std::uint16_t>();
  link.tos = any<std::uint8_t>();
  link.dont_fragment = any<bool>();
  if (any<bool>()) {
    link.source = "fd00::2";
    link.destination = "fd00::1";
    link.extensions.resize(between<std::size_t>(0, 4));
    for (auto& extension : link.extensions) {
      extension.type = *rc::gen::element<std::uint8_t>(0, 60, 135);
      extension.content.resize(between<std::size_t>(0, 40));
    }
  } else {
    link.ip_options = nop_option(4 * between<std::size_t>(0, 11));
  }
  if (link.vnet != 0) {
    link.checksum = *rc::gen::element(Checksum::complete, Checksum::partial, Checksum::valid);
  }
  link.padding = between<std::size_t>(0, 40);
  return link;
}

/// Options in any order, at any offset; 40 bytes at most.
Bytes any_options() {
  Bytes options = nop_option(between<std::size_t>(0, 4));
  const bool sack_first = any<bool>();
  const auto add_sack = [&] {
    if (!any<bool>()) return;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> blocks(between<std::size_t>(1, 4));
    for (auto& [left, right] : blocks) {
      left = any<std::uint32_t>();
      right = any<std::uint32_t>();
    }
    const Bytes option = sack_option(blocks);
    if (options.size() + option.size() <= 40) options += option;
  };
  if (sack_first) add_sack();
  if (any<bool>() && options.size() + 12 <= 40) {
    options += timestamp_option(any<std::uint32_t>(), any<std::uint32_t>());
  }
  if (!sack_first) add_sack();
  return options;
}

Tcp any_segment(const Link& link) {
  Tcp segment;
  segment.source_port = any<std::uint16_t>();
  segment.destination_port = any<std::uint16_t>();
  segment.seq = any<std::uint32_t>();
  segment.ack = any<std::uint32_t>();
  segment.flags = any<std::uint8_t>();
  segment.window = any<std::uint16_t>();
  segment.urgent = any<std::uint16_t>();
  segment.options = any_options();
  const bool large = link.vnet != 0 && any<bool>();
  segment.payload = pattern(between<std::size_t>(0, large ? 20'000 : 1500), any<std::uint32_t>());
  if (large) {
    segment.gso_size = between<std::uint16_t>(1, 9000);
    segment.gso_ecn = any<bool>();
  }
  return segment;
}

Bytes any_frame() {
  const Link link = any_link();
  switch (between(0, 6)) {
    case 0:
      return udp({any<std::uint16_t>(), any<std::uint16_t>(),
                  pattern(between<std::size_t>(0, 300), any<std::uint32_t>())},
                 link);
    case 1:
      return icmp({any<bool>(), any<std::uint16_t>(), any<std::uint16_t>(), pattern(20)}, link);
    case 2:
      return fragment(any<std::uint8_t>(), 8 * between<std::uint16_t>(0, 8000), any<bool>(),
                      pattern(between<std::size_t>(0, 100)), link);
    case 3:
      return ethernet(any<std::uint16_t>(), pattern(between<std::size_t>(0, 100)), link);
    default:
      return tcp(any_segment(link), link);
  }
}

/// In a heap block of just its size, so that AddressSanitizer sees what is read behind it.
class Block {
 public:
  explicit Block(const Bytes& bytes) : bytes_(new std::byte[bytes.size()]), size_(bytes.size()) {
    std::ranges::copy(bytes, bytes_.get());
  }
  [[nodiscard]] std::span<std::byte> span() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_;
};

RC_GTEST_PROP(PacketProperty, EveryPieceIsRightAndTogetherTheyAreTheSegment, ()) {
  const Link link = any_link();
  const Tcp segment = any_segment(link);
  const Direction direction = any_direction();
  const Bytes frame = tcp(segment, link);
  Packet packet;
  RC_ASSERT(parse(frame, direction, packet) == Malformed::none);
  RC_ASSERT(reference_errors(frame).empty());

  const auto size = static_cast<std::uint32_t>(segment.payload.size());
  std::vector<std::uint32_t> cuts{0, size};
  for (auto left = between(0, 8); left > 0; --left) {
    cuts.push_back(between<std::uint32_t>(0, size + 1));
  }
  std::ranges::sort(cuts);
  Bytes out;
  for (std::size_t i = 1; i < cuts.size(); ++i) {
    append_piece(frame, packet, cuts[i - 1], cuts[i], out);
  }

  Bytes together;
  std::uint8_t flags_seen = 0;
  const auto pieces = split(out);
  RC_ASSERT(pieces.size() == cuts.size() - 1);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Bytes& piece = pieces[i];
    const std::uint32_t from = cuts[i];
    const std::uint32_t to = cuts[i + 1];
    RC_ASSERT(reference_errors(piece) == std::string{});
    Packet made;
    RC_ASSERT(parse(Block(piece).span(), direction, made) == Malformed::none);
    RC_ASSERT(checksums_are_right(piece, made));
    const bool past_syn = from != 0 && packet.has(tcp_flag::syn);
    RC_ASSERT(made.seq == packet.seq + from + (past_syn ? 1 : 0));
    RC_ASSERT(made.ack == packet.ack);
    RC_ASSERT(made.window == packet.window);
    RC_ASSERT(made.key == packet.key);
    RC_ASSERT(made.payload_size == to - from);
    RC_ASSERT(made.payload - made.transport == packet.payload - packet.transport);
    RC_ASSERT(made.has(tcp_flag::syn) == (packet.has(tcp_flag::syn) && from == 0));
    RC_ASSERT(made.has(tcp_flag::fin) == (packet.has(tcp_flag::fin) && to == size));
    RC_ASSERT(std::equal(piece.begin() + made.transport + 20, piece.begin() + made.payload,
                         frame.begin() + packet.transport + 20));
    if (segment.gso_size != 0) {
      RC_ASSERT((piece[9] == std::byte{0}) == (to - from <= segment.gso_size));
    }
    flags_seen |= made.flags;
    const auto begin = piece.begin() + made.payload;
    together.insert(together.end(), begin, begin + made.payload_size);
  }
  RC_ASSERT(together == bytes_of(segment.payload));
  RC_ASSERT(flags_seen == packet.flags);
}

RC_GTEST_PROP(PacketProperty, APieceOfAPieceIsThePiece, ()) {
  const Link link = any_link();
  Tcp segment = any_segment(link);
  // A piece of one segment is not counted on; and a piece in itself knows nothing of the large one.
  segment.gso_size = 0;
  segment.gso_ecn = false;
  if (segment.payload.size() > 1400) segment.payload.resize(1400);
  const Bytes frame = tcp(segment, link);
  Packet packet;
  RC_ASSERT(parse(frame, Direction::from_guest, packet) == Malformed::none);
  const auto to = between<std::uint32_t>(0, packet.payload_size + 1);
  const auto from = between<std::uint32_t>(0, to + 1);
  Bytes head;
  append_piece(frame, packet, 0, to, head);
  Packet head_packet;
  RC_ASSERT(parse(head, Direction::from_guest, head_packet) == Malformed::none);
  Bytes twice;
  append_piece(head, head_packet, from, to, twice);
  Bytes once;
  append_piece(frame, packet, from, to, once);
  RC_ASSERT(twice == once);
}

RC_GTEST_PROP(PacketProperty, ShiftedThereAndBackIsTheSameFrame, ()) {
  const Link link = any_link();
  const Tcp segment = any_segment(link);
  const Bytes frame = tcp(segment, link);
  Packet packet;
  RC_ASSERT(parse(frame, Direction::from_guest, packet) == Malformed::none);
  TcpShift by{any<std::uint32_t>(), any<std::uint32_t>(), any<std::uint32_t>(),
              any<std::uint32_t>(), any<std::uint32_t>()};
  // Without ACK, an echo that is 0 afterwards cannot be told from none.
  const auto times = timestamps(frame, packet);
  if (times && !packet.has(tcp_flag::ack) && times->echo + by.echo == 0) by.echo = 0;

  const Block block(frame);
  shift(block.span(), packet, by);
  RC_ASSERT(reference_errors(block.span()) == std::string{});
  Packet shifted;
  RC_ASSERT(parse(block.span(), Direction::from_guest, shifted) == Malformed::none);
  RC_ASSERT(checksums_are_right(block.span(), shifted));
  RC_ASSERT(shifted.seq == packet.seq + by.seq);
  RC_ASSERT(shifted.ack == packet.ack + (packet.has(tcp_flag::ack) ? by.ack : 0));
  RC_ASSERT(shifted.key == packet.key);

  shift(block.span(), shifted,
        {0u - by.seq, 0u - by.ack, 0u - by.sack, 0u - by.timestamp, 0u - by.echo});
  RC_ASSERT(std::ranges::equal(block.span(), frame));
}

RC_GTEST_PROP(PacketProperty, AcknowledgementsAreRight, ()) {
  const Link link = any_link();
  const Tcp segment = any_segment(link);
  Bytes frame = tcp(segment, link);
  Packet packet;
  RC_ASSERT(parse(frame, Direction::from_guest, packet) == Malformed::none);
  const auto seq = any<std::uint32_t>();
  const auto ack = any<std::uint32_t>();
  Bytes made;
  append_acknowledgement(frame, packet, seq, ack, made);
  RC_ASSERT(reference_errors(made) == std::string{});
  Packet acknowledgement;
  RC_ASSERT(parse(made, Direction::from_guest, acknowledgement) == Malformed::none);
  RC_ASSERT(acknowledgement.seq == seq);
  RC_ASSERT(acknowledgement.ack == ack);
  RC_ASSERT(acknowledgement.sequence_length() == 0u);

  set_ack(frame, packet, ack);
  RC_ASSERT(reference_errors(frame) == std::string{});
  RC_ASSERT(parse(frame, Direction::from_guest, packet) == Malformed::none);
  RC_ASSERT(packet.ack == ack);
}

RC_GTEST_PROP(PacketProperty, MangledFramesAreParsedWithinTheirBounds, ()) {
  Bytes frame = any_frame();
  const Direction direction = any_direction();
  // Most of them in the headers, where they matter.
  for (auto left = between(0, 6); left > 0; --left) {
    const std::size_t reach = any<bool>() ? std::min<std::size_t>(frame.size(), 110) : frame.size();
    frame[between<std::size_t>(4, std::max<std::size_t>(reach, 5))] =
        static_cast<std::byte>(any<std::uint8_t>());
  }
  if (any<bool>()) frame.resize(between<std::size_t>(8, frame.size() + 20));
  store_be(frame.data(), static_cast<std::uint32_t>(frame.size() - 8));

  const Block block(frame);
  Packet packet;
  if (parse(block.span(), direction, packet) != Malformed::none) return;
  RC_ASSERT(packet.network <= packet.transport);
  RC_ASSERT(packet.transport <= packet.payload);
  RC_ASSERT(std::size_t{packet.payload} + packet.payload_size <= frame.size());
  if (const auto times = timestamps(block.span(), packet)) {
    RC_ASSERT(times->offset + 8 <= packet.payload);
  }
  RC_ASSERT(!to_string(packet.key).empty());
  static_cast<void>(checksums_are_right(block.span(), packet));
  Packet opposite;
  const auto other =
      direction == Direction::from_guest ? Direction::to_guest : Direction::from_guest;
  RC_ASSERT(parse(block.span(), other, opposite) == Malformed::none);
  RC_ASSERT(opposite.key.guest == packet.key.peer);
  RC_ASSERT(opposite.key.guest_port == packet.key.peer_port);
  if (packet.kind != Kind::tcp) return;

  Bytes out;
  const auto to = between<std::uint32_t>(0, packet.payload_size + 1);
  append_piece(block.span(), packet, between<std::uint32_t>(0, to + 1), to, out);
  append_acknowledgement(block.span(), packet, 1, 2, out);
  for (const Bytes& made : split(out)) {
    Packet again;
    RC_ASSERT(parse(made, direction, again) == Malformed::none);
    RC_ASSERT(again.key == packet.key);
    // What was wrong before stays wrong, and what was right stays right.
    if (checksums_are_right(block.span(), packet)) RC_ASSERT(checksums_are_right(made, again));
  }
  const bool right = checksums_are_right(block.span(), packet);
  shift(block.span(), packet, {1, 2, 3, 4, 5});
  set_ack(block.span(), packet, any<std::uint32_t>());
  RC_ASSERT(parse(block.span(), direction, opposite) == Malformed::none);
  RC_ASSERT(checksums_are_right(block.span(), opposite) == right);
}

}  // namespace
}  // namespace tandem::proxy
