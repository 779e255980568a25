// libFuzzer target: any bytes as a guest's frame. What is parsed lies within the frame, and every
// change to it gives frames that parse, with the same bytes and with checksums as right as before.
//
// The first four bytes of an input decide the direction and the numbers that the changes take. The
// frame's length is set to what there is, but for one input in 16.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "proxy/packet.hpp"
#include "tests/unit/packet_builder.hpp"

namespace {

using namespace tandem::proxy;
using tandem::proxy::test::Bytes;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

/// Numbers that follow from the input.
class Numbers {
 public:
  explicit Numbers(std::uint32_t seed) : state_(seed) {}
  std::uint32_t next() {
    state_ = state_ * 1664525 + 1013904223;
    return state_ ^ state_ >> 15;
  }
  /// At most `most`.
  std::uint32_t up_to(std::uint32_t most) { return most == ~0u ? next() : next() % (most + 1); }

 private:
  std::uint32_t state_;
};

/// A heap block of its own, so AddressSanitizer sees what is read behind it.
class Block {
 public:
  explicit Block(std::span<const std::byte> bytes)
      : bytes_(new std::byte[bytes.size()]), size_(bytes.size()) {
    std::copy(bytes.begin(), bytes.end(), bytes_.get());
  }
  [[nodiscard]] std::span<std::byte> span() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_;
};

Packet parse_again(std::span<const std::byte> frame, Direction direction, const char* what) {
  Packet packet;
  require(parse(frame, direction, packet) == Malformed::none, what);
  return packet;
}

void check_offsets(std::span<const std::byte> frame, const Packet& packet) {
  require(packet.network >= 8 + 14 && packet.network <= packet.transport, "network offset");
  require(packet.transport <= packet.payload, "transport offset");
  require(std::size_t{packet.payload} + packet.payload_size <= frame.size(), "payload");
  require(packet.kind == packet.key.kind, "kind");
  if (packet.kind == Kind::tcp) {
    require(packet.payload - packet.transport >= 20, "TCP header");
    const auto times = timestamps(frame, packet);
    if (times) {
      require(times->offset >= packet.transport + 20 && times->offset + 8 <= packet.payload,
              "timestamps");
    }
  }
}

/// What is right in `before` has to be in `after`, and what is wrong must not be mended unseen.
void check_checksums(std::span<const std::byte> before, const Packet& packet,
                     std::span<const std::byte> after, const Packet& changed) {
  // A new header checksum is made for every piece, so only a right one can be compared.
  if (checksums_are_right(before, packet)) {
    require(checksums_are_right(after, changed), "a right checksum became wrong");
  }
  if (!test::reference_errors(before).empty()) return;
  const std::string error = test::reference_errors(after);
  if (!error.empty()) std::fprintf(stderr, "%s\n", error.c_str());
  require(error.empty(), "a right frame became wrong");
}

void check_pieces(std::span<const std::byte> frame, const Packet& packet, Direction direction,
                  Numbers& numbers) {
  std::vector<std::uint32_t> cuts{0, packet.payload_size};
  for (std::uint32_t left = numbers.up_to(3); left > 0; --left) {
    cuts.push_back(numbers.up_to(packet.payload_size));
  }
  std::sort(cuts.begin(), cuts.end());
  Bytes out;
  for (std::size_t i = 1; i < cuts.size(); ++i) {
    append_piece(frame, packet, cuts[i - 1], cuts[i], out);
  }
  Bytes together;
  std::uint8_t flags = 0;
  const auto pieces = test::split(out);
  require(pieces.size() == cuts.size() - 1, "number of pieces");
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Block piece(pieces[i]);
    const Packet made = parse_again(piece.span(), direction, "a piece does not parse");
    check_offsets(piece.span(), made);
    check_checksums(frame, packet, piece.span(), made);
    require(made.key == packet.key, "a piece of another flow");
    require(made.payload_size == cuts[i + 1] - cuts[i], "length of a piece");
    const bool past_syn = cuts[i] != 0 && packet.has(tcp_flag::syn);
    require(made.seq == packet.seq + cuts[i] + (past_syn ? 1 : 0), "sequence number of a piece");
    require(made.ack == packet.ack && made.window == packet.window, "numbers of a piece");
    flags |= made.flags;
    const auto payload = piece.span().subspan(made.payload, made.payload_size);
    together.insert(together.end(), payload.begin(), payload.end());
  }
  require(flags == packet.flags, "flags of the pieces");
  require(std::ranges::equal(together, frame.subspan(packet.payload, packet.payload_size)),
          "payload of the pieces");
}

void check_acknowledgement(std::span<const std::byte> frame, const Packet& packet,
                           Direction direction, Numbers& numbers) {
  const std::uint32_t seq = numbers.next();
  const std::uint32_t ack = numbers.next();
  Bytes out;
  append_acknowledgement(frame, packet, seq, ack, out);
  const Packet made = parse_again(out, direction, "an acknowledgement does not parse");
  check_checksums(frame, packet, out, made);
  require(made.key == packet.key && made.seq == seq && made.ack == ack, "an acknowledgement");
  require(made.sequence_length() == 0 && made.window == packet.window, "a pure acknowledgement");
}

void check_shift(std::span<const std::byte> frame, const Packet& packet, Direction direction,
                 Numbers& numbers) {
  TcpShift by{numbers.next(), numbers.next(), numbers.next(), numbers.next(), numbers.next()};
  // Without ACK, an echo that becomes 0 cannot be told from none.
  if (!packet.has(tcp_flag::ack)) by.echo = 0;
  const Block changed(frame);
  shift(changed.span(), packet, {});
  require(std::ranges::equal(changed.span(), frame), "a shift by nothing");
  shift(changed.span(), packet, by);
  const Packet made = parse_again(changed.span(), direction, "a shifted frame does not parse");
  check_checksums(frame, packet, changed.span(), made);
  require(made.seq == packet.seq + by.seq && made.key == packet.key, "a shifted frame");
  require(checksums_are_right(changed.span(), made) == checksums_are_right(frame, packet),
          "a shift mended or broke a checksum");
  shift(changed.span(), made,
        {0u - by.seq, 0u - by.ack, 0u - by.sack, 0u - by.timestamp, 0u - by.echo});
  // 0xffff, which no sender computes, comes back as 0: the same sum.
  if (tandem::load_be<std::uint16_t>(frame.data() + packet.transport + 16) == 0xffff) return;
  require(std::ranges::equal(changed.span(), frame), "a shift there and back");

  const std::uint32_t ack = numbers.next();
  set_ack(changed.span(), packet, ack);
  const Packet acknowledging = parse_again(changed.span(), direction, "set_ack");
  check_checksums(frame, packet, changed.span(), acknowledging);
  require(acknowledging.ack == ack && acknowledging.seq == packet.seq, "set_ack");
}

void check(std::span<const std::byte> frame, Direction direction, Numbers& numbers) {
  Packet packet;
  const Malformed reason = parse(frame, direction, packet);
  require(!to_string(reason).empty(), "a reason without a name");
  if (reason != Malformed::none) return;
  check_offsets(frame, packet);
  require(!to_string(packet.key).empty(), "a flow without a name");
  const auto other =
      direction == Direction::from_guest ? Direction::to_guest : Direction::from_guest;
  const Packet opposite = parse_again(frame, other, "it parses in one direction only");
  require(opposite.key.guest == packet.key.peer && opposite.key.peer == packet.key.guest &&
              opposite.key.guest_port == packet.key.peer_port,
          "the other direction");
  require(hash_value(FlowKey(packet.key)) == hash_value(packet.key), "hash");
  static_cast<void>(checksums_are_right(frame, packet));

  if (packet.kind == Kind::tcp) {
    check_pieces(frame, packet, direction, numbers);
    check_acknowledgement(frame, packet, direction, numbers);
    check_shift(frame, packet, direction, numbers);
    return;
  }
  const Block same(frame);
  shift(same.span(), packet, {1, 2, 3, 4, 5});
  set_ack(same.span(), packet, 6);
  Bytes out;
  append_piece(frame, packet, 0, 1, out);
  append_acknowledgement(frame, packet, 1, 2, out);
  require(out.empty() && std::ranges::equal(same.span(), frame), "a change to what is not TCP");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  const auto bytes = std::as_bytes(std::span(data, size));
  Numbers numbers(tandem::load_be<std::uint32_t>(bytes.data()));
  const Direction direction = (data[3] & 1) != 0 ? Direction::to_guest : Direction::from_guest;
  const Block whole(bytes.subspan(4));
  const std::span<std::byte> frame = whole.span();
  if (frame.size() >= 4 && (data[3] & 0xf0) != 0xf0) {
    tandem::store_be(frame.data(), static_cast<std::uint32_t>(frame.size() - 8));
  }
  check(frame, direction, numbers);
  if (frame.size() < 8) return 0;
  // The same frame, cut short.
  const Block cut(frame.first(8 + numbers.up_to(static_cast<std::uint32_t>(frame.size() - 8))));
  tandem::store_be(cut.span().data(), static_cast<std::uint32_t>(cut.span().size() - 8));
  check(cut.span(), direction, numbers);
  return 0;
}
