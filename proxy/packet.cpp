#include "proxy/packet.hpp"

#include <arpa/inet.h>
#include <sys/random.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/big_endian.hpp"
#include "proxy/chardev_framing.hpp"

namespace tandem::proxy {

namespace {

namespace ether_type {
constexpr std::uint16_t ipv4 = 0x0800, ipv6 = 0x86dd, vlan = 0x8100, service_vlan = 0x88a8;
/// Below, the field is the length of an IEEE 802.3 frame.
constexpr std::uint16_t least = 0x0600;
}  // namespace ether_type

namespace protocol {
constexpr std::uint8_t hop_by_hop = 0, icmp = 1, tcp = 6, udp = 17, routing = 43, fragment = 44,
                       icmpv6 = 58, destination = 60, mobility = 135, hip = 139, shim6 = 140;
}  // namespace protocol

/// The virtio-net header: offsets from its first byte, little-endian (virtio 1.2, 5.1.6).
namespace vnet {
constexpr std::uint32_t flags = 0, gso_type = 1, header_length = 2, gso_size = 4, csum_start = 6,
                        csum_offset = 8, size_min = 10, size_max = 64;
constexpr std::uint8_t needs_csum = 1, data_valid = 2;
constexpr std::uint8_t gso_none = 0, gso_tcpv4 = 1, gso_udp = 3, gso_tcpv6 = 4, gso_udp_l4 = 5,
                       gso_ecn = 0x80;
}  // namespace vnet

constexpr std::uint32_t prefix_size = frame_prefix_size;
constexpr std::uint32_t ethernet_size = 14;
constexpr std::uint32_t ipv4_size_min = 20, ipv6_size = 40;
constexpr std::uint32_t tcp_size_min = 20, udp_size = 8, icmp_size = 8;
constexpr std::uint32_t tcp_checksum = 16, udp_checksum = 6, icmp_checksum = 2;
constexpr int vlan_tags_max = 2;
constexpr int extensions_max = 8;
constexpr std::uint16_t ipv4_more_fragments = 0x2000, ipv4_offset_mask = 0x1fff;

std::uint8_t load8(const std::byte* from) noexcept {
  return std::to_integer<std::uint8_t>(*from);
}
std::uint16_t load16_le(const std::byte* from) noexcept {
  std::uint16_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
void store16_le(std::byte* to, std::uint32_t value) noexcept {
  const auto narrow = static_cast<std::uint16_t>(value);
  std::memcpy(to, &narrow, sizeof narrow);
}

/// What parse() knows beyond a Packet; the changes read it anew from a frame that was parsed.
struct Offload {
  std::uint32_t vnet_size = 0;
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t gso_size = 0;

  [[nodiscard]] bool partial() const noexcept { return (flags & vnet::needs_csum) != 0; }
  [[nodiscard]] std::uint32_t ethernet() const noexcept { return prefix_size + vnet_size; }
};

/// `frame` has a prefix, and the virtio-net header that it speaks of.
Offload load_offload(const std::byte* frame) noexcept {
  Offload offload;
  offload.vnet_size = load_be<std::uint32_t>(frame + 4);
  if (offload.vnet_size == 0) return offload;
  const std::byte* header = frame + prefix_size;
  offload.flags = load8(header + vnet::flags);
  offload.gso_type = load8(header + vnet::gso_type);
  offload.gso_size = load16_le(header + vnet::gso_size);
  return offload;
}

// ---- Checksums: sums of big-endian 16-bit words in ones' complement (RFC 1071)

std::uint16_t fold(std::uint64_t sum) noexcept {
  sum = (sum & 0xffff'ffff) + (sum >> 32);
  sum = (sum & 0xffff'ffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

/// Folded. The sum does not depend on the byte order but for that of the result (RFC 1071, 2 (B)),
/// so it is done in this machine's own, 8 bytes at a time.
std::uint16_t sum_of(const std::byte* bytes, std::size_t size) noexcept {
  std::uint64_t sum = 0;
  std::uint64_t more = 0;
  for (; size >= 8; bytes += 8, size -= 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    sum += word & 0xffff'ffff;
    more += word >> 32;
  }
  if (size != 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes, size);
    sum += word & 0xffff'ffff;
    more += word >> 32;
  }
  // Up to 70 KB in 4-byte words: neither has come near 64 bits.
  return byte_swap(fold(sum + more));
}

std::uint16_t inverse(std::uint16_t sum) noexcept {
  return static_cast<std::uint16_t>(~sum);
}

/// 0 and 0xffff are the same number.
bool same_sum(std::uint16_t a, std::uint16_t b) noexcept {
  return a == b || ((a == 0 || a == 0xffff) && (b == 0 || b == 0xffff));
}

/// A 32-bit field's part in the sum of what begins at an even (or odd) distance before it.
std::uint16_t part_of(std::uint32_t value, bool odd) noexcept {
  const std::uint16_t sum = fold(value);
  return odd ? byte_swap(sum) : sum;
}

/// Changes 32-bit fields of a TCP header and gathers what that does to the checksum (RFC 1624).
class FieldWriter {
 public:
  FieldWriter(std::byte* frame, std::uint32_t transport) noexcept
      : frame_(frame), transport_(transport) {}

  void set(std::uint32_t offset, std::uint32_t value) noexcept {
    const auto old = load_be<std::uint32_t>(frame_ + offset);
    if (old == value) return;
    const bool odd = ((offset - transport_) & 1) != 0;
    store_be(frame_ + offset, value);
    change_ += inverse(part_of(old, odd));
    change_ += part_of(value, odd);
  }
  void add(std::uint32_t offset, std::uint32_t by) noexcept {
    set(offset, load_be<std::uint32_t>(frame_ + offset) + by);
  }

  /// Brings the checksum up to date. A partial one covers none of these fields.
  void finish() noexcept {
    if (change_ == 0 || load_offload(frame_).partial()) return;
    std::byte* field = frame_ + transport_ + tcp_checksum;
    const std::uint64_t sum = inverse(load_be<std::uint16_t>(field));
    store_be(field, inverse(fold(sum + change_)));
  }

 private:
  std::byte* frame_;
  std::uint32_t transport_;
  std::uint64_t change_ = 0;
};

/// Calls visit(kind, offset of the option, its length) for every option of a TCP header but padding
/// that lies in it whole, until visit answers false or the options make no sense.
template <typename Visit>
void for_each_option(const std::byte* frame, const Packet& packet, Visit visit) noexcept {
  std::uint32_t at = packet.transport + tcp_size_min;
  const std::uint32_t end = packet.payload;
  while (at < end) {
    const std::uint8_t kind = load8(frame + at);
    if (kind == 0) return;
    if (kind == 1) {
      ++at;
      continue;
    }
    if (end - at < 2) return;
    const std::uint32_t length = load8(frame + at + 1);
    if (length < 2 || length > end - at) return;
    if (!visit(kind, at, length)) return;
    at += length;
  }
}

constexpr std::uint8_t option_sack = 5, option_timestamps = 8;
constexpr std::uint32_t timestamps_length = 10;

// ---- Parsing

/// The headers from the IP header on; `end` is where they may reach to at most.
class Parser {
 public:
  Parser(const std::byte* frame, std::uint32_t end, Direction direction, Packet& packet) noexcept
      : frame_(frame), end_(end), direction_(direction), packet_(packet) {}

  Malformed ethernet(std::uint32_t at) noexcept {
    if (end_ - at < ethernet_size) return Malformed::truncated;
    const std::uint32_t start = at;
    at += 12;
    auto type = load_be<std::uint16_t>(frame_ + at);
    at += 2;
    for (int tags = 0; type == ether_type::vlan || type == ether_type::service_vlan; ++tags) {
      if (tags == vlan_tags_max) return Malformed::header_chain;
      if (end_ - at < 4) return Malformed::truncated;
      add_tag(type, load_be<std::uint16_t>(frame_ + at));
      type = load_be<std::uint16_t>(frame_ + at + 2);
      at += 4;
    }
    packet_.network = at;
    if (type == ether_type::ipv4 && at < end_ && load8(frame_ + at) >> 4 == 4) return ipv4(at);
    if (type == ether_type::ipv6 && at < end_ && load8(frame_ + at) >> 4 == 6) return ipv6(at);
    if (at == end_ && (type == ether_type::ipv4 || type == ether_type::ipv6)) {
      return Malformed::truncated;
    }
    packet_.key.protocol = type < ether_type::least ? std::uint16_t{0} : type;
    std::memcpy(source().data(), frame_ + start + 6, 6);
    std::memcpy(destination().data(), frame_ + start, 6);
    rest(Kind::link, at, end_);
    return Malformed::none;
  }

 private:
  std::array<std::byte, 16>& source() noexcept {
    return direction_ == Direction::from_guest ? packet_.key.guest : packet_.key.peer;
  }
  std::array<std::byte, 16>& destination() noexcept {
    return direction_ == Direction::from_guest ? packet_.key.peer : packet_.key.guest;
  }
  void set_ports(std::uint16_t from, std::uint16_t to) noexcept {
    const bool guest = direction_ == Direction::from_guest;
    packet_.key.guest_port = guest ? from : to;
    packet_.key.peer_port = guest ? to : from;
  }

  /// One tag keeps its number; two are folded into 15 bits, the topmost says which it is. A tag's
  /// priority is not part of it: it may change in the middle of a conversation.
  void add_tag(std::uint16_t type, std::uint16_t tag) noexcept {
    std::uint32_t vlan = packet_.key.vlan;
    const std::uint32_t number = tag & 0x0fffu;
    if (vlan == 0) {
      vlan = 0x1000 | number | (type == ether_type::vlan ? 0 : 0x2000);
    } else {
      vlan = 0x8000 | ((vlan * 0x0d05 + number) & 0x7fff);
    }
    packet_.key.vlan = static_cast<std::uint16_t>(vlan);
  }

  /// No transport header that is known: all up to `end` is payload.
  void rest(Kind kind, std::uint32_t at, std::uint32_t end) noexcept {
    packet_.kind = packet_.key.kind = kind;
    packet_.transport = packet_.payload = at;
    packet_.payload_size = end - at;
  }

  Malformed ipv4(std::uint32_t at) noexcept {
    const std::byte* header = frame_ + at;
    const std::uint32_t available = end_ - at;
    if (available < ipv4_size_min) return Malformed::truncated;
    const std::uint32_t header_size = (load8(header) & 0x0fu) * 4;
    if (header_size < ipv4_size_min) return Malformed::length;
    if (header_size > available) return Malformed::truncated;
    const std::uint32_t total = load_be<std::uint16_t>(header + 2);
    if (total < header_size || total > available) return Malformed::length;

    for (auto* address : {&source(), &destination()}) {
      (*address)[10] = (*address)[11] = std::byte{0xff};
    }
    std::memcpy(source().data() + 12, header + 12, 4);
    std::memcpy(destination().data() + 12, header + 16, 4);
    const std::uint8_t next = load8(header + 9);
    packet_.key.protocol = next;
    const auto fragment = load_be<std::uint16_t>(header + 6);
    packet_.more_fragments = (fragment & ipv4_more_fragments) != 0;
    packet_.fragment_offset = static_cast<std::uint16_t>((fragment & ipv4_offset_mask) * 8);
    if (packet_.more_fragments || packet_.fragment_offset != 0) {
      rest(Kind::fragment, at + header_size, at + total);
      return Malformed::none;
    }
    return transport(next, at + header_size, at + total);
  }

  Malformed ipv6(std::uint32_t at) noexcept {
    const std::byte* header = frame_ + at;
    packet_.ipv6 = true;
    if (end_ - at < ipv6_size) return Malformed::truncated;
    const std::uint32_t size = load_be<std::uint16_t>(header + 4);
    // 0 announces a jumbo payload (RFC 2675), which is not supported.
    if (size == 0 || size > end_ - at - ipv6_size) return Malformed::length;
    std::memcpy(source().data(), header + 8, 16);
    std::memcpy(destination().data(), header + 24, 16);

    std::uint8_t next = load8(header + 6);
    at += ipv6_size;
    const std::uint32_t end = at + size;
    for (int extensions = 0;; ++extensions) {
      switch (next) {
        case protocol::hop_by_hop:
        case protocol::routing:
        case protocol::destination:
        case protocol::mobility:
        case protocol::hip:
        case protocol::shim6:
        case protocol::fragment:
          break;
        default:
          // Encapsulated, encrypted or no next header (50, 51, 59), too: whole, as Kind::ip.
          packet_.key.protocol = next;
          return transport(next, at, end);
      }
      if (extensions == extensions_max) return Malformed::header_chain;
      if (end - at < 8) return Malformed::truncated;
      const std::uint8_t type = next;
      next = load8(frame_ + at);
      if (type == protocol::fragment) {
        const auto field = load_be<std::uint16_t>(frame_ + at + 2);
        packet_.more_fragments = (field & 1) != 0;
        packet_.fragment_offset = field & 0xfff8;
        at += 8;
        if (packet_.more_fragments || packet_.fragment_offset != 0) {
          packet_.key.protocol = next;
          rest(Kind::fragment, at, end);
          return Malformed::none;
        }
        continue;
      }
      const std::uint32_t length = (load8(frame_ + at + 1) + 1u) * 8;
      if (length > end - at) return Malformed::length;
      at += length;
    }
  }

  Malformed transport(std::uint8_t next, std::uint32_t at, std::uint32_t end) noexcept {
    const std::byte* header = frame_ + at;
    const std::uint32_t available = end - at;
    if (next == protocol::tcp) {
      if (available < tcp_size_min) return Malformed::truncated;
      const std::uint32_t header_size = (load8(header + 12) >> 4) * 4u;
      if (header_size < tcp_size_min || header_size > available) return Malformed::length;
      rest(Kind::tcp, at, end);
      after_header(header_size);
      set_ports(load_be<std::uint16_t>(header), load_be<std::uint16_t>(header + 2));
      packet_.seq = load_be<std::uint32_t>(header + 4);
      packet_.ack = load_be<std::uint32_t>(header + 8);
      packet_.flags = load8(header + 13);
      packet_.window = load_be<std::uint16_t>(header + 14);
      return Malformed::none;
    }
    if (next == protocol::udp) {
      if (available < udp_size) return Malformed::truncated;
      const std::uint32_t length = load_be<std::uint16_t>(header + 4);
      if (length < udp_size || length > available) return Malformed::length;
      rest(Kind::udp, at, end);
      after_header(udp_size);
      set_ports(load_be<std::uint16_t>(header), load_be<std::uint16_t>(header + 2));
      return Malformed::none;
    }
    if (next == (packet_.ipv6 ? protocol::icmpv6 : protocol::icmp)) {
      if (available < icmp_size) return Malformed::truncated;
      rest(Kind::icmp, at, end);
      after_header(icmp_size);
      const std::uint8_t type = load8(header);
      const bool echo = packet_.ipv6 ? type == 128 || type == 129 : type == 8 || type == 0;
      if (echo) {
        const auto identifier = load_be<std::uint16_t>(header + 4);
        set_ports(identifier, identifier);
      }
      return Malformed::none;
    }
    rest(Kind::ip, at, end);
    return Malformed::none;
  }

  void after_header(std::uint32_t size) noexcept {
    packet_.payload += size;
    packet_.payload_size -= size;
  }

  const std::byte* frame_;
  std::uint32_t end_;
  Direction direction_;
  Packet& packet_;
};

/// Whether the virtio-net header asks for what can be done to this packet, and nothing else.
bool offload_fits(const std::byte* frame, std::uint32_t size, const Offload& offload,
                  const Packet& packet) noexcept {
  if ((offload.flags & ~(vnet::needs_csum | vnet::data_valid)) != 0) return false;
  if (offload.gso_type != vnet::gso_none) {
    if (offload.gso_size == 0) return false;
    switch (offload.gso_type & ~vnet::gso_ecn) {
      case vnet::gso_tcpv4:
        if (packet.kind != Kind::tcp || packet.ipv6) return false;
        break;
      case vnet::gso_tcpv6:
        if (packet.kind != Kind::tcp || !packet.ipv6) return false;
        break;
      case vnet::gso_udp:
      case vnet::gso_udp_l4:
        if (packet.kind != Kind::udp || (offload.gso_type & vnet::gso_ecn) != 0) return false;
        break;
      default:
        return false;
    }
  }
  if (!offload.partial()) return true;
  const std::uint32_t start =
      offload.ethernet() + load16_le(frame + prefix_size + vnet::csum_start);
  const std::uint32_t offset = load16_le(frame + prefix_size + vnet::csum_offset);
  if (start + offset + 2 > size) return false;
  if (packet.kind == Kind::tcp) return start == packet.transport && offset == tcp_checksum;
  if (packet.kind == Kind::udp) return start == packet.transport && offset == udp_checksum;
  return true;
}

// ---- Changes

/// What a frame made of another one differs in.
struct Segment {
  std::uint32_t from = 0;  ///< of the payload
  std::uint32_t to = 0;
  std::uint32_t seq = 0;
  std::uint32_t ack = 0;
  std::uint8_t flags = 0;
};

/// Appends a TCP frame with the headers and options of `frame`. The transport checksum is derived
/// from the one that `frame` has and not made anew: what stood wrong in it stays visible to the
/// receiver, and what the pseudo-header holds need not be known (with a routing header, it is not
/// what the IP header says).
void append_segment(std::span<const std::byte> frame, const Packet& packet, const Segment& segment,
                    std::vector<std::byte>& out) {
  const std::byte* old = frame.data();
  const Offload offload = load_offload(old);
  const std::uint32_t payload_size = segment.to - segment.from;
  const std::uint32_t size = packet.payload + payload_size;
  const std::size_t begin = out.size();
  out.reserve(begin + size);
  out.insert(out.end(), old, old + packet.payload);
  out.insert(out.end(), old + packet.payload + segment.from, old + packet.payload + segment.to);
  std::byte* made = out.data() + begin;
  store_be(made, size - prefix_size);

  const std::uint32_t tcp_length = size - packet.transport;
  const std::uint32_t old_tcp_length = packet.payload + packet.payload_size - packet.transport;
  std::byte* network = made + packet.network;
  if (packet.ipv6) {
    store_be(network + 4, static_cast<std::uint16_t>(size - packet.network - ipv6_size));
  } else {
    store_be(network + 2, static_cast<std::uint16_t>(size - packet.network));
    // Segments before this one count on, as segmentation would count: were two pieces of the same
    // number fragmented on their way, they could be put together wrongly.
    const std::uint32_t before = offload.gso_type == vnet::gso_none
                                     ? (segment.from == 0 ? 0 : 1)
                                     : (segment.from + offload.gso_size - 1) / offload.gso_size;
    const std::uint32_t id = load_be<std::uint16_t>(network + 4) + before;
    store_be(network + 4, static_cast<std::uint16_t>(id));
    const std::uint32_t header_size = packet.transport - packet.network;
    store_be(network + 10, std::uint16_t{0});
    store_be(network + 10, inverse(sum_of(network, header_size)));
  }

  std::byte* transport = made + packet.transport;
  store_be(transport + 4, segment.seq);
  store_be(transport + 8, segment.ack);
  store_be(transport + 13, segment.flags);
  if ((segment.flags & tcp_flag::urg) == 0) store_be(transport + 18, std::uint16_t{0});

  if (offload.vnet_size != 0) {
    std::byte* header = made + prefix_size;
    if (offload.gso_type != vnet::gso_none) {
      if (payload_size <= offload.gso_size) {
        store_be(header + vnet::gso_type, std::uint8_t{vnet::gso_none});
        store16_le(header + vnet::gso_size, 0);
      } else if ((segment.flags & tcp_flag::cwr) == 0) {
        // Only the segment with CWR needs to be cut with regard to ECN.
        store_be(header + vnet::gso_type,
                 static_cast<std::uint8_t>(offload.gso_type & ~vnet::gso_ecn));
      }
    }
    if (load16_le(header + vnet::header_length) != 0) {
      store16_le(header + vnet::header_length, packet.payload - offload.ethernet());
    }
  }

  std::byte* field = transport + tcp_checksum;
  const auto checksum = load_be<std::uint16_t>(field);
  if (offload.partial()) {
    const std::uint64_t sum = std::uint64_t{checksum} + inverse(fold(old_tcp_length)) + tcp_length;
    store_be(field, fold(sum));
    return;
  }
  // Both sums hold the checksum field itself with the same value, so it cancels out.
  const std::uint64_t sum =
      std::uint64_t{inverse(checksum)} + inverse(sum_of(old + packet.transport, old_tcp_length)) +
      inverse(fold(old_tcp_length)) + sum_of(transport, tcp_length) + tcp_length;
  store_be(field, inverse(fold(sum)));
}

/// Whether the transport checksum of `length` bytes, over a pseudo-header or not, is right.
bool transport_is_right(const std::byte* frame, const Packet& packet, std::uint32_t length,
                        std::uint32_t field, bool pseudo_header, bool partial) noexcept {
  std::uint64_t sum = 0;
  if (pseudo_header) {
    const std::byte* addresses = frame + packet.network + (packet.ipv6 ? 8 : 12);
    sum = std::uint64_t{sum_of(addresses, packet.ipv6 ? 32 : 8)} + packet.key.protocol + length;
  }
  const std::byte* transport = frame + packet.transport;
  if (partial) return same_sum(load_be<std::uint16_t>(transport + field), fold(sum));
  return same_sum(fold(sum + sum_of(transport, length)), 0);
}

/// A routing header means that the pseudo-header's destination is another one than the IP header's.
bool has_routing_header(const std::byte* frame, const Packet& packet) noexcept {
  std::uint8_t next = load8(frame + packet.network + 6);
  for (std::uint32_t at = packet.network + ipv6_size; at < packet.transport;) {
    if (next == protocol::routing) return true;
    const std::uint32_t length = next == protocol::fragment ? 8 : (load8(frame + at + 1) + 1u) * 8;
    next = load8(frame + at);
    at += length;
  }
  return false;
}

// ---- Hashing

/// Drawn once a process: a client that picks its ports cannot pick the buckets that they fall in.
struct HashSeeds {
  std::array<std::uint64_t, 6> value{};

  HashSeeds() noexcept {
    if (getrandom(value.data(), sizeof value, 0) == sizeof value) return;
    // No kernel that runs QEMU lacks it; should one, an unpredictable time is better than nothing.
    auto state =
        static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    for (std::uint64_t& seed : value) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      seed = state ^ state >> 29;
    }
  }
};

std::uint64_t multiply_mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t load64(const std::byte* from) noexcept {
  std::uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// ---- Text

std::string mac_text(const std::array<std::byte, 16>& address) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < 6; ++i) {
    if (i != 0) text += ':';
    text += digits[load8(&address[i]) >> 4];
    text += digits[load8(&address[i]) & 15];
  }
  return text;
}

/// `ports`: followed by the port, an IPv6 address in brackets then.
std::string address_text(const std::array<std::byte, 16>& address, std::uint16_t port, bool ports) {
  const bool ipv4 = std::all_of(address.begin(), address.begin() + 10,
                                [](std::byte b) { return b == std::byte{0}; }) &&
                    address[10] == std::byte{0xff} && address[11] == std::byte{0xff};
  char buffer[INET6_ADDRSTRLEN] = {};
  if (ipv4) {
    inet_ntop(AF_INET, address.data() + 12, buffer, sizeof buffer);
  } else {
    inet_ntop(AF_INET6, address.data(), buffer, sizeof buffer);
  }
  if (!ports) return buffer;
  const std::string name = ipv4 ? buffer : "[" + std::string(buffer) + "]";
  return name + ":" + std::to_string(port);
}

}  // namespace

std::string_view to_string(Malformed reason) noexcept {
  switch (reason) {
    case Malformed::none:
      return "none";
    case Malformed::truncated:
      return "truncated";
    case Malformed::length:
      return "length";
    case Malformed::header_chain:
      return "header chain";
    case Malformed::offload:
      return "offload";
  }
  return "unknown";
}

std::string_view to_string(Kind kind) noexcept {
  switch (kind) {
    case Kind::tcp:
      return "tcp";
    case Kind::udp:
      return "udp";
    case Kind::icmp:
      return "icmp";
    case Kind::fragment:
      return "fragment";
    case Kind::ip:
      return "ip";
    case Kind::link:
      return "link";
  }
  return "unknown";
}

std::size_t hash_value(const FlowKey& key) noexcept {
  static const HashSeeds seeds;
  const auto& s = seeds.value;
  const std::uint64_t ports = std::uint64_t{key.guest_port} | std::uint64_t{key.peer_port} << 16 |
                              std::uint64_t{key.vlan} << 32 | std::uint64_t{key.protocol} << 48;
  const std::uint64_t guest =
      multiply_mix(load64(key.guest.data()) ^ s[0], load64(key.guest.data() + 8) ^ s[1]);
  const std::uint64_t peer =
      multiply_mix(load64(key.peer.data()) ^ s[2], load64(key.peer.data() + 8) ^ s[3]);
  const std::uint64_t kind = static_cast<std::uint64_t>(key.kind) << 56;
  return multiply_mix(guest ^ ports ^ s[4], peer ^ kind ^ s[5]);
}

std::string to_string(const FlowKey& key) {
  const bool ports = key.kind == Kind::tcp || key.kind == Kind::udp;
  std::string text{to_string(key.kind)};
  if (key.kind == Kind::link) {
    text += ' ' + mac_text(key.guest) + " > " + mac_text(key.peer);
  } else {
    text += ' ' + address_text(key.guest, key.guest_port, ports) + " > " +
            address_text(key.peer, key.peer_port, ports);
  }
  if (key.kind == Kind::icmp && key.guest_port != 0)
    text += " id " + std::to_string(key.guest_port);
  if (key.kind == Kind::fragment || key.kind == Kind::ip) {
    text += " protocol " + std::to_string(key.protocol);
  }
  if (key.kind == Kind::link) {
    static constexpr char digits[] = "0123456789abcdef";
    text += " type 0x";
    for (int shift = 12; shift >= 0; shift -= 4) text += digits[key.protocol >> shift & 15];
  }
  if (key.vlan != 0) {
    text += " vlan " + (key.vlan & 0x8000 ? "#" + std::to_string(key.vlan & 0x7fff)
                                          : std::to_string(key.vlan & 0x0fff));
  }
  return text;
}

Malformed parse(std::span<const std::byte> frame, Direction direction, Packet& packet) noexcept {
  packet = Packet{};
  if (frame.size() < prefix_size) return Malformed::truncated;
  const auto length = load_be<std::uint32_t>(frame.data());
  const auto vnet_size = load_be<std::uint32_t>(frame.data() + 4);
  if (length != frame.size() - prefix_size || length > frame_length_max) return Malformed::length;
  if (vnet_size > length || vnet_size > vnet::size_max) return Malformed::length;
  if (vnet_size != 0 && vnet_size < vnet::size_min) return Malformed::length;

  const std::uint32_t size = prefix_size + length;
  const Offload offload = load_offload(frame.data());
  Parser parser(frame.data(), size, direction, packet);
  const Malformed reason = parser.ethernet(offload.ethernet());
  if (reason != Malformed::none) return reason;
  if (offload.vnet_size != 0 && !offload_fits(frame.data(), size, offload, packet)) {
    return Malformed::offload;
  }
  return Malformed::none;
}

std::optional<Timestamps> timestamps(std::span<const std::byte> frame,
                                     const Packet& packet) noexcept {
  std::optional<Timestamps> found;
  if (packet.kind != Kind::tcp) return found;
  for_each_option(frame.data(), packet,
                  [&](std::uint8_t kind, std::uint32_t at, std::uint32_t length) {
                    if (kind != option_timestamps || length != timestamps_length) return true;
                    found = Timestamps{at + 2, load_be<std::uint32_t>(frame.data() + at + 2),
                                       load_be<std::uint32_t>(frame.data() + at + 6)};
                    return false;
                  });
  return found;
}

void shift(std::span<std::byte> frame, const Packet& packet, const TcpShift& by) noexcept {
  if (packet.kind != Kind::tcp) return;
  const bool acknowledges = packet.has(tcp_flag::ack);
  FieldWriter fields(frame.data(), packet.transport);
  fields.add(packet.transport + 4, by.seq);
  if (acknowledges) fields.add(packet.transport + 8, by.ack);
  if (by.sack != 0 || by.timestamp != 0 || by.echo != 0) {
    for_each_option(frame.data(), packet,
                    [&](std::uint8_t kind, std::uint32_t at, std::uint32_t length) {
                      if (kind == option_sack) {
                        for (std::uint32_t edge = 2; edge + 8 <= length; edge += 8) {
                          fields.add(at + edge, by.sack);
                          fields.add(at + edge + 4, by.sack);
                        }
                      } else if (kind == option_timestamps && length == timestamps_length) {
                        fields.add(at + 2, by.timestamp);
                        const auto echo = load_be<std::uint32_t>(frame.data() + at + 6);
                        if (acknowledges || echo != 0) fields.set(at + 6, echo + by.echo);
                      }
                      return true;
                    });
  }
  fields.finish();
}

void set_ack(std::span<std::byte> frame, const Packet& packet, std::uint32_t ack) noexcept {
  if (packet.kind != Kind::tcp) return;
  FieldWriter fields(frame.data(), packet.transport);
  fields.set(packet.transport + 8, ack);
  fields.finish();
}

void append_piece(std::span<const std::byte> frame, const Packet& packet, std::uint32_t from,
                  std::uint32_t to, std::vector<std::byte>& out) {
  if (packet.kind != Kind::tcp) return;
  to = std::min(to, packet.payload_size);
  from = std::min(from, to);
  Segment segment{from, to, packet.seq + from, packet.ack, packet.flags};
  // What stands at the beginning or the end of a segment takes its place among the numbers there.
  if (from != 0) {
    segment.flags &= static_cast<std::uint8_t>(~(tcp_flag::syn | tcp_flag::urg | tcp_flag::cwr));
    if (packet.has(tcp_flag::syn)) ++segment.seq;
  }
  if (to != packet.payload_size) {
    segment.flags &= static_cast<std::uint8_t>(~(tcp_flag::fin | tcp_flag::psh | tcp_flag::rst));
  }
  append_segment(frame, packet, segment, out);
}

void append_acknowledgement(std::span<const std::byte> frame, const Packet& packet,
                            std::uint32_t seq, std::uint32_t ack, std::vector<std::byte>& out) {
  if (packet.kind != Kind::tcp) return;
  const auto flags = static_cast<std::uint8_t>((packet.flags & tcp_flag::ece) | tcp_flag::ack);
  append_segment(frame, packet, {0, 0, seq, ack, flags}, out);
}

bool checksums_are_right(std::span<const std::byte> frame, const Packet& packet) noexcept {
  if (packet.kind == Kind::link) return true;
  const std::byte* bytes = frame.data();
  if (!packet.ipv6) {
    const std::byte* header = bytes + packet.network;
    if (!same_sum(sum_of(header, (load8(header) & 0x0fu) * 4), 0)) return false;
  }
  const bool partial = load_offload(bytes).partial();
  const std::uint32_t length = packet.payload + packet.payload_size - packet.transport;
  const bool unknown = packet.ipv6 && has_routing_header(bytes, packet);
  switch (packet.kind) {
    case Kind::tcp:
      return unknown || transport_is_right(bytes, packet, length, tcp_checksum, true, partial);
    case Kind::udp: {
      const std::byte* header = bytes + packet.transport;
      if (!partial && load_be<std::uint16_t>(header + udp_checksum) == 0) return true;
      // The datagram may be shorter than the IP packet.
      return unknown || transport_is_right(bytes, packet, load_be<std::uint16_t>(header + 4),
                                           udp_checksum, true, partial);
    }
    case Kind::icmp:
      return unknown || partial ||
             transport_is_right(bytes, packet, length, icmp_checksum, packet.ipv6, false);
    default:
      return true;
  }
}

}  // namespace tandem::proxy
