// What the proxy has to know of a guest's frame: bounds-checked views of its headers, and the few
// changes that it makes to one. Sans-I/O, no allocation.
//
// A frame here is always in the framing of QEMU's filter chardevs (chardev_framing.hpp), prefix and
// virtio-net header included. Offsets count from the frame's first byte.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::proxy {

/// Which way a frame goes; a flow's key is the same for both.
enum class Direction { from_guest, to_guest };

/// How a frame is compared.
enum class Kind : std::uint8_t {
  tcp,       ///< whole TCP header present, not a fragment
  udp,       ///< whole UDP header present, not a fragment
  icmp,      ///< ICMP or ICMPv6, not a fragment
  fragment,  ///< any piece of a fragmented datagram
  ip,        ///< another protocol over IPv4 or IPv6
  link       ///< no IP: ARP and whatever else an Ethernet frame may carry
};
std::string_view to_string(Kind kind) noexcept;

/// Why a frame cannot be parsed.
enum class Malformed : std::uint8_t {
  none,
  truncated,     ///< ends inside a header
  length,        ///< a length field claims more than there is, or less than its header
  header_chain,  ///< more VLAN tags or extension headers than any honest frame has
  offload        ///< the virtio-net header contradicts the packet, or asks for what is not known
};
std::string_view to_string(Malformed reason) noexcept;

/// One direction-independent conversation. Addresses are IPv6 or IPv4-mapped; for Kind::link they
/// hold the MAC addresses. Ports are 0 where there are none; for ICMP echo both are the identifier.
struct FlowKey {
  std::array<std::byte, 16> guest{};
  std::array<std::byte, 16> peer{};
  std::uint16_t guest_port = 0;
  std::uint16_t peer_port = 0;
  std::uint16_t vlan = 0;  ///< all tags folded into one number; 0: none
  /// IP protocol number; Kind::link: the EtherType, 0 for IEEE 802.3 frames, which have none.
  std::uint16_t protocol = 0;
  Kind kind = Kind::link;
  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};
std::size_t hash_value(const FlowKey& key) noexcept;
/// "tcp 10.0.0.2:6379 > 10.0.0.1:40000", for people.
std::string to_string(const FlowKey& key);

namespace tcp_flag {
inline constexpr std::uint8_t fin = 0x01, syn = 0x02, rst = 0x04, psh = 0x08, ack = 0x10,
                              urg = 0x20, ece = 0x40, cwr = 0x80;
}

/// A frame's headers. Offsets from the frame's first byte; all of them lie within the frame.
struct Packet {
  Kind kind = Kind::link;
  bool ipv6 = false;
  bool more_fragments = false;
  std::uint16_t fragment_offset = 0;  ///< bytes
  std::uint32_t network = 0;          ///< the IP header; without IP: what follows the EtherType
  std::uint32_t transport = 0;  ///< the TCP, UDP or ICMP header, or what follows the IP headers
  std::uint32_t payload = 0;    ///< after the transport header (ICMP: after its 8 bytes)
  /// Up to the end of the IP packet: without Ethernet padding, but with what a UDP length leaves
  /// out.
  std::uint32_t payload_size = 0;
  // TCP only:
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint16_t window = 0;
  std::uint8_t flags = 0;
  FlowKey key;

  /// Sequence numbers that the segment takes: payload, SYN and FIN.
  [[nodiscard]] std::uint32_t sequence_length() const noexcept {
    return payload_size + ((flags & tcp_flag::syn) ? 1u : 0u) + ((flags & tcp_flag::fin) ? 1u : 0u);
  }
  [[nodiscard]] bool has(std::uint8_t flag) const noexcept { return (flags & flag) != 0; }
};

/// Parses one whole frame. `packet` is meaningful only if the answer is Malformed::none.
Malformed parse(std::span<const std::byte> frame, Direction direction, Packet& packet) noexcept;

/// A frame's TCP timestamps (RFC 7323), if it carries them.
struct Timestamps {
  std::uint32_t offset = 0;  ///< of TSval in the frame; TSecr is 4 behind
  std::uint32_t value = 0;
  std::uint32_t echo = 0;
};
std::optional<Timestamps> timestamps(std::span<const std::byte> frame,
                                     const Packet& packet) noexcept;

/// Serial number arithmetic (RFC 1982) for 32-bit sequence numbers and timestamps.
constexpr bool before(std::uint32_t a, std::uint32_t b) noexcept {
  return static_cast<std::int32_t>(a - b) < 0;
}
constexpr bool at_or_before(std::uint32_t a, std::uint32_t b) noexcept {
  return !before(b, a);
}

// ---- Changes. Each keeps a complete checksum complete and a partial one (NEEDS_CSUM) partial, and
// a wrong one wrong. `packet` is what parse() said of `frame`: its offsets stay right, its numbers
// are not changed with the frame's. Frames of another kind than TCP are left alone, and `out` must
// not hold `frame`.

/// What is added to a TCP segment's numbers; 0 changes nothing. `ack` is added where ACK is set,
/// `sack` to every edge of its SACK blocks, `echo` to TSecr (not where it is 0 without ACK).
struct TcpShift {
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint32_t sack = 0;
  std::uint32_t timestamp = 0;
  std::uint32_t echo = 0;
};
void shift(std::span<std::byte> frame, const Packet& packet, const TcpShift& by) noexcept;

/// Sets the acknowledgement number.
void set_ack(std::span<std::byte> frame, const Packet& packet, std::uint32_t ack) noexcept;

/// Appends to `out` a frame of its own with bytes [from, to) of the TCP segment's payload: lengths,
/// sequence number, checksums and segmentation offload are right for it. PSH, FIN and RST stay with
/// the piece that ends the payload; SYN, URG and CWR with the one that begins it. from == to, both
/// at the end, gives a pure acknowledgement (or the FIN alone). Beyond the payload is its end.
/// Flags are `packet`'s: one taken out there is in no piece.
void append_piece(std::span<const std::byte> frame, const Packet& packet, std::uint32_t from,
                  std::uint32_t to, std::vector<std::byte>& out);

/// Appends a pure acknowledgement of `ack` with the headers, window and options of `frame`: no
/// payload, no SYN, FIN, RST, PSH or URG, and the sequence number `seq`.
void append_acknowledgement(std::span<const std::byte> frame, const Packet& packet,
                            std::uint32_t seq, std::uint32_t ack, std::vector<std::byte>& out);

/// Whether every checksum that the frame carries is right: complete ones add up, and a partial one
/// holds the sum of the pseudo-header. For tests and traces.
bool checksums_are_right(std::span<const std::byte> frame, const Packet& packet) noexcept;

}  // namespace tandem::proxy

template <>
struct std::hash<tandem::proxy::FlowKey> {
  std::size_t operator()(const tandem::proxy::FlowKey& key) const noexcept {
    return hash_value(key);
  }
};
