// Builds guests' frames for tests, in the framing of QEMU's filter chardevs, and checks the
// checksums of frames by a plain reference computation that shares nothing with the product.
//
//   Bytes frame = tcp({.seq = 1000, .payload = "hello"}, {.checksum = Checksum::partial});
//
// Everything has a default: a segment from 10.0.0.2:6379 (the guest) to 10.0.0.1:40000. What comes
// from the peer is built with `reversed(link)` and `reversed(segment)`.
#pragma once

#include <arpa/inet.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/big_endian.hpp"

namespace tandem::proxy::test {

using Bytes = std::vector<std::byte>;

// ---- Bytes

inline Bytes bytes_of(std::string_view text) {
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

/// "45 00 00 3c": spaces are ignored.
inline Bytes from_hex(std::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (c != ' ' && c != '\n') digits += c;
  }
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

inline Bytes& operator+=(Bytes& bytes, std::span<const std::byte> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
  return bytes;
}

inline void put8(Bytes& bytes, unsigned value) {
  bytes.push_back(static_cast<std::byte>(value));
}
inline void put16(Bytes& bytes, unsigned value) {
  put8(bytes, value >> 8 & 0xff);
  put8(bytes, value & 0xff);
}
inline void put32(Bytes& bytes, std::uint32_t value) {
  put16(bytes, value >> 16);
  put16(bytes, value & 0xffff);
}
/// The virtio-net header's byte order.
inline void put16_le(Bytes& bytes, unsigned value) {
  put8(bytes, value & 0xff);
  put8(bytes, value >> 8 & 0xff);
}

/// `size` bytes that differ from place to place and with `seed`.
inline std::string pattern(std::size_t size, std::uint32_t seed = 1) {
  std::string text(size, '\0');
  std::uint32_t state = seed * 2654435761u + 12345;
  for (char& c : text) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

// ---- Reference checksums: RFC 1071 word by word, big-endian, nothing clever.

inline std::uint64_t reference_sum(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto value = static_cast<std::uint64_t>(bytes[i]);
    sum += i % 2 == 0 ? value << 8 : value;
  }
  return sum;
}

inline std::uint16_t reference_fold(std::uint64_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

// ---- What is built

enum class Checksum {
  complete,
  partial,  ///< NEEDS_CSUM: the field holds the pseudo-header's sum
  valid,    ///< DATA_VALID and complete
  none,     ///< UDP: 0
  wrong     ///< complete, and off by one
};

/// An IPv6 extension header: its type, and its content behind next header and length, which is
/// padded to a multiple of 8. For 44 (fragment) the content is all but the next header field.
struct Extension {
  std::uint8_t type = 0;
  Bytes content = {};
};

/// All below the transport header.
struct Link {
  std::uint32_t vnet = 12;                ///< length of the virtio-net header; 0: none
  std::vector<std::uint16_t> vlans = {};  ///< outermost first; TCI each
  std::string source = "10.0.0.2";        ///< with a colon: IPv6
  std::string destination = "10.0.0.1";
  std::string source_mac = "52:54:00:00:00:02";
  std::string destination_mac = "52:54:00:00:00:01";
  std::uint16_t ip_id = 0x1234;
  std::uint8_t ttl = 64;
  std::uint8_t tos = 0;
  bool dont_fragment = true;
  Bytes ip_options = {};  ///< IPv4; a multiple of 4 bytes
  std::vector<Extension> extensions = {};
  Checksum checksum = Checksum::complete;
  std::size_t padding = 0;  ///< Ethernet padding behind the IP packet
};

inline Link reversed(Link link) {
  std::swap(link.source, link.destination);
  std::swap(link.source_mac, link.destination_mac);
  return link;
}

struct Tcp {
  std::uint16_t source_port = 6379;
  std::uint16_t destination_port = 40000;
  std::uint32_t seq = 1000;
  std::uint32_t ack = 2000;
  std::uint8_t flags = 0x10;  ///< ACK
  std::uint16_t window = 501;
  std::uint16_t urgent = 0;
  Bytes options = {};  ///< padded with end-of-options to a multiple of 4
  std::string payload = {};
  std::uint16_t gso_size = 0;  ///< 0: not a GSO frame
  bool gso_ecn = false;
};

inline Tcp reversed(Tcp segment) {
  std::swap(segment.source_port, segment.destination_port);
  return segment;
}

struct Udp {
  std::uint16_t source_port = 53;
  std::uint16_t destination_port = 40000;
  std::string payload = {};
  std::uint16_t gso_size = 0;  ///< UFO
};

struct Echo {
  bool reply = true;
  std::uint16_t identifier = 7;
  std::uint16_t sequence = 1;
  std::string payload = "ping";
};

// ---- TCP options

inline Bytes operator+(Bytes a, const Bytes& b) {
  a += b;
  return a;
}

/// NOP, NOP, timestamps: as Linux sends it.
inline Bytes timestamp_option(std::uint32_t value, std::uint32_t echo) {
  Bytes option = from_hex("01 01 08 0a");
  put32(option, value);
  put32(option, echo);
  return option;
}
/// Without NOPs: 2 + 8n bytes, so what follows stands wherever it ends.
inline Bytes sack_option(const std::vector<std::pair<std::uint32_t, std::uint32_t>>& blocks) {
  Bytes option;
  put8(option, 5);
  put8(option, static_cast<unsigned>(2 + 8 * blocks.size()));
  for (const auto& [left, right] : blocks) {
    put32(option, left);
    put32(option, right);
  }
  return option;
}
inline Bytes nop_option(std::size_t count = 1) {
  return Bytes(count, std::byte{1});
}
inline Bytes mss_option(std::uint16_t mss) {
  Bytes option = from_hex("02 04");
  put16(option, mss);
  return option;
}
inline Bytes window_scale_option(std::uint8_t shift) {
  Bytes option = from_hex("01 03 03");
  put8(option, shift);
  return option;
}
inline Bytes sack_permitted_option() {
  return from_hex("01 01 04 02");
}
/// What a Linux SYN carries: MSS, SACK permitted, timestamps, window scale.
inline Bytes syn_options(std::uint32_t timestamp, std::uint32_t echo = 0) {
  Bytes option = mss_option(1460) + from_hex("04 02 08 0a");
  put32(option, timestamp);
  put32(option, echo);
  return option + window_scale_option(7);
}

// ---- Frames

namespace detail {

inline bool is_ipv6(const Link& link) {
  return link.source.find(':') != std::string::npos;
}

inline Bytes address(const std::string& text) {
  const bool six = text.find(':') != std::string::npos;
  Bytes bytes(six ? 16 : 4);
  if (inet_pton(six ? AF_INET6 : AF_INET, text.c_str(), bytes.data()) != 1) std::abort();
  return bytes;
}

inline Bytes mac(std::string text) {
  std::erase(text, ':');
  return from_hex(text);
}

/// What a transport checksum covers besides the packet (RFC 793, RFC 8200).
inline std::uint64_t pseudo_sum(const Link& link, std::uint8_t protocol, std::size_t length) {
  Bytes header = address(link.source) + address(link.destination);
  put32(header, static_cast<std::uint32_t>(length));
  put32(header, protocol);
  return reference_sum(header);
}

/// What the virtio-net header says.
struct Offload {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t gso_size = 0;
  std::size_t header_size = 0;      ///< of the transport header
  std::size_t checksum_offset = 0;  ///< in the transport header
};

/// Puts a frame together: prefix, virtio-net header, Ethernet, VLAN tags, `content`. `transport` is
/// where in content the transport header begins.
inline Bytes frame(const Link& link, std::uint16_t ether_type, const Bytes& content,
                   std::size_t transport = 0, const Offload& offload = {}) {
  Bytes ethernet = mac(link.destination_mac) + mac(link.source_mac);
  for (std::size_t i = 0; i < link.vlans.size(); ++i) {
    put16(ethernet, i + 1 < link.vlans.size() ? 0x88a8 : 0x8100);
    put16(ethernet, link.vlans[i]);
  }
  put16(ethernet, ether_type);
  const std::size_t start = ethernet.size() + transport;
  ethernet += content;
  ethernet.resize(ethernet.size() + link.padding, std::byte{0});

  Bytes vnet;
  put8(vnet, offload.flags);
  put8(vnet, offload.gso_type);
  const bool gso = offload.gso_type != 0;
  put16_le(vnet, gso ? static_cast<unsigned>(start + offload.header_size) : 0);
  put16_le(vnet, offload.gso_size);
  const bool needs_checksum = (offload.flags & 1) != 0;
  put16_le(vnet, needs_checksum ? static_cast<unsigned>(start) : 0);
  put16_le(vnet, needs_checksum ? static_cast<unsigned>(offload.checksum_offset) : 0);
  vnet.resize(link.vnet, std::byte{0});

  Bytes whole;
  put32(whole, static_cast<std::uint32_t>(vnet.size() + ethernet.size()));
  put32(whole, link.vnet);
  return whole + vnet + ethernet;
}

/// The IP headers before `length` bytes of `protocol`; `fragment` is IPv4's flags and offset field.
inline Bytes ip_header(const Link& link, std::uint8_t protocol, std::size_t length,
                       std::uint16_t fragment) {
  Bytes header;
  if (!is_ipv6(link)) {
    const std::size_t size = 20 + link.ip_options.size();
    put8(header, static_cast<unsigned>(0x40 | size / 4));
    put8(header, link.tos);
    put16(header, static_cast<unsigned>(size + length));
    put16(header, link.ip_id);
    put16(header, fragment);
    put8(header, link.ttl);
    put8(header, protocol);
    put16(header, 0);
    header += address(link.source);
    header += address(link.destination);
    header += link.ip_options;
    const auto sum = static_cast<std::uint16_t>(~reference_fold(reference_sum(header)));
    store_be(header.data() + 10, sum);
    return header;
  }
  Bytes chain;
  for (std::size_t i = 0; i < link.extensions.size(); ++i) {
    const Extension& extension = link.extensions[i];
    const bool last = i + 1 == link.extensions.size();
    Bytes one;
    put8(one, last ? protocol : link.extensions[i + 1].type);
    if (extension.type == 44) {
      one += extension.content;
      one.resize(8, std::byte{0});
    } else {
      const std::size_t size = (2 + extension.content.size() + 7) / 8 * 8;
      put8(one, static_cast<unsigned>(size / 8 - 1));
      one += extension.content;
      one.resize(size, std::byte{0});
    }
    chain += one;
  }
  put32(header, 0x60000000u | static_cast<std::uint32_t>(link.tos) << 20);
  put16(header, static_cast<unsigned>(chain.size() + length));
  put8(header, link.extensions.empty() ? protocol : link.extensions.front().type);
  put8(header, link.ttl);
  header += address(link.source);
  header += address(link.destination);
  return header + chain;
}

/// Fills in the transport checksum at `offset` and makes a frame of it. `zero_means_none`: a
/// checksum that comes out as 0 is sent as 0xffff (UDP).
inline Bytes finish(const Link& link, std::uint8_t protocol, Bytes transport, std::size_t offset,
                    Offload offload, bool zero_means_none = false, bool pseudo_header = true) {
  const auto pseudo = pseudo_header ? pseudo_sum(link, protocol, transport.size()) : 0;
  auto sum = static_cast<std::uint16_t>(~reference_fold(pseudo + reference_sum(transport)));
  if (zero_means_none && sum == 0) sum = 0xffff;
  offload.checksum_offset = offset;
  switch (link.checksum) {
    case Checksum::complete:
      break;
    case Checksum::partial:
      sum = reference_fold(pseudo);
      offload.flags = 1;
      break;
    case Checksum::valid:
      offload.flags = 2;
      break;
    case Checksum::none:
      sum = 0;
      break;
    case Checksum::wrong:
      sum = static_cast<std::uint16_t>(sum == 1 ? 2 : sum - 1);
      break;
  }
  store_be(transport.data() + offset, sum);
  const Bytes header = ip_header(link, protocol, transport.size(), link.dont_fragment ? 0x4000 : 0);
  return frame(link, is_ipv6(link) ? 0x86dd : 0x0800, header + transport, header.size(), offload);
}

}  // namespace detail

inline Bytes tcp(const Tcp& segment = {}, const Link& link = {}) {
  Bytes options = segment.options;
  options.resize((options.size() + 3) / 4 * 4, std::byte{0});
  Bytes transport;
  put16(transport, segment.source_port);
  put16(transport, segment.destination_port);
  put32(transport, segment.seq);
  put32(transport, segment.ack);
  put8(transport, static_cast<unsigned>((20 + options.size()) / 4) << 4);
  put8(transport, segment.flags);
  put16(transport, segment.window);
  put16(transport, 0);
  put16(transport, segment.urgent);
  transport += options;
  detail::Offload offload{.header_size = transport.size()};
  if (segment.gso_size != 0) {
    offload.gso_type =
        static_cast<std::uint8_t>((detail::is_ipv6(link) ? 4 : 1) | (segment.gso_ecn ? 0x80 : 0));
    offload.gso_size = segment.gso_size;
  }
  transport += bytes_of(segment.payload);
  return detail::finish(link, 6, std::move(transport), 16, offload);
}

inline Bytes udp(const Udp& datagram = {}, const Link& link = {}) {
  Bytes transport;
  put16(transport, datagram.source_port);
  put16(transport, datagram.destination_port);
  put16(transport, static_cast<unsigned>(8 + datagram.payload.size()));
  put16(transport, 0);
  transport += bytes_of(datagram.payload);
  detail::Offload offload{.header_size = 8};
  if (datagram.gso_size != 0) {
    offload.gso_type = 3;
    offload.gso_size = datagram.gso_size;
  }
  return detail::finish(link, 17, std::move(transport), 6, offload, true);
}

/// An echo request or reply, ICMP or ICMPv6 as the addresses are.
inline Bytes icmp(const Echo& echo = {}, const Link& link = {}) {
  const bool six = detail::is_ipv6(link);
  Bytes transport;
  put8(transport, six ? (echo.reply ? 129 : 128) : (echo.reply ? 0 : 8));
  put8(transport, 0);
  put16(transport, 0);
  put16(transport, echo.identifier);
  put16(transport, echo.sequence);
  transport += bytes_of(echo.payload);
  return detail::finish(link, six ? 58 : 1, std::move(transport), 2, {}, false, six);
}

/// Any protocol over IP.
inline Bytes ip(std::uint8_t protocol, std::string_view payload, const Link& link = {}) {
  const Bytes header =
      detail::ip_header(link, protocol, payload.size(), link.dont_fragment ? 0x4000 : 0);
  return detail::frame(link, detail::is_ipv6(link) ? 0x86dd : 0x0800, header + bytes_of(payload));
}

/// Piece of a datagram: `offset` is a multiple of 8, link.ip_id (IPv4) or `ip_id` names the
/// datagram. For IPv6 the fragment header is added as the last extension header.
inline Bytes fragment(std::uint8_t protocol, std::uint16_t offset, bool more,
                      std::string_view payload, Link link = {}) {
  if (!detail::is_ipv6(link)) {
    const auto field = static_cast<std::uint16_t>(offset / 8 | (more ? 0x2000 : 0));
    return detail::frame(
        link, 0x0800, detail::ip_header(link, protocol, payload.size(), field) + bytes_of(payload));
  }
  Bytes content;
  put8(content, 0);
  put16(content, static_cast<unsigned>(offset | (more ? 1 : 0)));
  put32(content, link.ip_id);
  link.extensions.push_back({44, content});
  return ip(protocol, payload, link);
}

/// A request for link.destination, or a reply.
inline Bytes arp(bool reply = false, const Link& link = {}) {
  Bytes content = from_hex("00 01 08 00 06 04");
  put16(content, reply ? 2 : 1);
  content += detail::mac(link.source_mac);
  content += detail::address(link.source);
  content += reply ? detail::mac(link.destination_mac) : Bytes(6);
  content += detail::address(link.destination);
  Link broadcast = link;
  if (!reply) broadcast.destination_mac = "ff:ff:ff:ff:ff:ff";
  return detail::frame(broadcast, 0x0806, content);
}

/// Any EtherType.
inline Bytes ethernet(std::uint16_t ether_type, std::string_view content, const Link& link = {}) {
  return detail::frame(link, ether_type, bytes_of(content));
}

// ---- Frames that have come out

/// Frames back to back, cut apart. Aborts if they are not whole.
inline std::vector<Bytes> split(std::span<const std::byte> frames) {
  std::vector<Bytes> cut;
  while (!frames.empty()) {
    if (frames.size() < 8) std::abort();
    const std::size_t size = 8 + std::size_t{load_be<std::uint32_t>(frames.data())};
    if (frames.size() < size) std::abort();
    cut.emplace_back(frames.begin(), frames.begin() + static_cast<std::ptrdiff_t>(size));
    frames = frames.subspan(size);
  }
  return cut;
}

/// What is wrong with a frame's checksums, lengths or offload, by a plain reading of its own;
/// empty: nothing. IPv6 extension headers are followed; routing headers are not supported.
inline std::string reference_errors(std::span<const std::byte> frame) {
  const auto at8 = [&](std::size_t i) { return std::to_integer<unsigned>(frame[i]); };
  const auto at16 = [&](std::size_t i) { return at8(i) << 8 | at8(i + 1); };
  const auto at16_le = [&](std::size_t i) { return at8(i) | at8(i + 1) << 8; };
  if (frame.size() < 8) return "no prefix";
  if (load_be<std::uint32_t>(frame.data()) != frame.size() - 8) return "frame length";
  const std::size_t vnet = load_be<std::uint32_t>(frame.data() + 4);
  const std::size_t ethernet = 8 + vnet;
  const bool needs_checksum = vnet != 0 && (at8(8) & 1) != 0;
  const unsigned gso_type = vnet != 0 ? at8(9) : 0;
  std::size_t at = ethernet + 12;
  while (at16(at) == 0x8100 || at16(at) == 0x88a8) at += 4;
  const unsigned ether_type = at16(at);
  const std::size_t network = at + 2;
  std::size_t transport = 0;
  std::size_t end = 0;
  unsigned protocol = 0;
  std::uint64_t pseudo = 0;
  if (ether_type == 0x0800) {
    const std::size_t size = (at8(network) & 15) * 4;
    if (reference_fold(reference_sum(frame.subspan(network, size))) != 0xffff) return "IP checksum";
    end = network + at16(network + 2);
    if ((at16(network + 6) & 0x3fff) != 0) return {};
    protocol = at8(network + 9);
    transport = network + size;
    pseudo = reference_sum(frame.subspan(network + 12, 8));
  } else if (ether_type == 0x86dd) {
    end = network + 40 + at16(network + 4);
    protocol = at8(network + 6);
    transport = network + 40;
    while (protocol == 0 || protocol == 60 || protocol == 135 || protocol == 44) {
      if (protocol == 44 && (at16(transport + 2) & 0xfff9) != 0) return {};
      const std::size_t size = protocol == 44 ? 8 : 8 * (at8(transport + 1) + 1);
      protocol = at8(transport);
      transport += size;
    }
    pseudo = reference_sum(frame.subspan(network + 8, 32));
  } else {
    return {};
  }
  if (end > frame.size()) return "IP length";
  std::size_t field = 0;
  bool has_pseudo = true;
  if (protocol == 6) {
    field = 16;
  } else if (protocol == 17) {
    field = 6;
    if (at16(transport + field) == 0 && !needs_checksum) return {};
  } else if (protocol == 1 || protocol == 58) {
    field = 2;
    has_pseudo = protocol == 58;
  } else {
    return {};
  }
  const std::size_t length = protocol == 17 ? at16(transport + 4) : end - transport;
  pseudo = has_pseudo ? pseudo + protocol + length : 0;
  if (needs_checksum) {
    if (ethernet + at16_le(14) != transport || at16_le(16) != field) return "csum_start";
    if (at16(transport + field) != reference_fold(pseudo)) return "partial checksum";
  } else if (reference_fold(pseudo + reference_sum(frame.subspan(transport, length))) != 0xffff) {
    return "checksum";
  }
  if (gso_type != 0) {
    if (protocol == 6 && (gso_type & 0x7f) != (ether_type == 0x0800 ? 1u : 4u)) return "gso type";
    if (at16_le(12) == 0) return "gso size";
  } else if (vnet != 0 && at16_le(12) != 0) {
    return "gso size without gso";
  }
  if (vnet != 0 && at16_le(10) > frame.size() - ethernet) return "hdr_len";
  return {};
}

}  // namespace tandem::proxy::test
