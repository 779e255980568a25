// Parsing guests' frames, and the changes that the proxy makes to them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <unordered_set>

#include "proxy/chardev_framing.hpp"
#include "proxy/packet.hpp"
#include "tests/unit/packet_builder.hpp"

namespace tandem::proxy {
namespace {

using namespace test;
using testing::ElementsAre;

const Link ipv6_link{.source = "fd00::2", .destination = "fd00::1"};

Link with(Link link, Checksum checksum) {
  link.checksum = checksum;
  return link;
}

Packet parsed(const Bytes& frame, Direction direction = Direction::from_guest) {
  Packet packet;
  EXPECT_EQ(to_string(parse(frame, direction, packet)), to_string(Malformed::none));
  return packet;
}

Malformed verdict(const Bytes& frame) {
  Packet packet;
  return parse(frame, Direction::from_guest, packet);
}

Bytes payload_of(const Bytes& frame) {
  const Packet packet = parsed(frame);
  const auto begin = frame.begin() + packet.payload;
  return {begin, begin + packet.payload_size};
}

/// Lengths, checksums and offload of a frame, by the reference and by the product.
void expect_right(const Bytes& frame) {
  EXPECT_EQ(reference_errors(frame), "");
  EXPECT_TRUE(checksums_are_right(frame, parsed(frame)));
}

void expect_inside(const Bytes& frame, const Packet& packet) {
  EXPECT_LE(packet.network, packet.transport);
  EXPECT_LE(packet.transport, packet.payload);
  EXPECT_LE(std::size_t{packet.payload} + packet.payload_size, frame.size());
}

/// The frame with its length field set to what there is.
Bytes with_length(Bytes frame) {
  if (frame.size() >= 8) store_be(frame.data(), static_cast<std::uint32_t>(frame.size() - 8));
  return frame;
}

Bytes with_byte(Bytes frame, std::size_t at, unsigned value) {
  frame.at(at) = static_cast<std::byte>(value);
  return frame;
}

Bytes with_be16(Bytes frame, std::size_t at, unsigned value) {
  frame.at(at + 1) = static_cast<std::byte>(value & 0xff);
  return with_byte(std::move(frame), at, value >> 8);
}

Bytes piece(const Bytes& frame, std::uint32_t from, std::uint32_t to) {
  Bytes out;
  append_piece(frame, parsed(frame), from, to, out);
  return out;
}

// Offsets in frames with a virtio-net header of 12 bytes and without VLAN tags.
constexpr std::size_t vnet_at = 8, ethernet_at = 20, network_at = 34, tcp_at = 54, tcp6_at = 74;

// ---- Frames that Linux 6.1 has sent to a tap

/// Prefix and virtio-net header in front of an Ethernet frame.
Bytes from_tap(std::string_view vnet, std::string_view ethernet) {
  const Bytes header = from_hex(vnet);
  const Bytes rest = from_hex(ethernet);
  Bytes frame;
  put32(frame, static_cast<std::uint32_t>(header.size() + rest.size()));
  put32(frame, static_cast<std::uint32_t>(header.size()));
  return frame + header + rest;
}

Bytes letters(std::size_t size) {
  std::string text;
  while (text.size() < size) text += "abcdefghij";
  return bytes_of(text.substr(0, size));
}

const Bytes linux_syn = from_tap("",
                                 "52 54 00 00 00 01 52 54 00 00 00 02 08 00"
                                 "45 00 00 3c d6 82 40 00 40 06 50 37 0a 00 00 02 0a 00 00 01"
                                 "ab 35 00 50 73 a9 99 0f 00 00 00 00 a0 02 ff dc d8 ba 00 00"
                                 "02 04 00 64 04 02 08 0a 90 38 18 3c 00 00 00 00 01 03 03 0a");

/// Checksum left to the network card, virtio-net header of 10 bytes.
const Bytes linux_partial_syn =
    from_tap("01 00 00 00 00 00 22 00 10 00",
             "52 54 00 00 00 01 52 54 00 00 00 02 08 00"
             "45 00 00 3c 56 1c 40 00 40 06 d0 9d 0a 00 00 02 0a 00 00 01"
             "8b f9 00 50 76 df 09 a7 00 00 00 00 a0 02 ff dc 14 31 00 00"
             "02 04 00 64 04 02 08 0a d4 62 20 3d 00 00 00 00 01 03 03 0a");

/// 250 bytes in one frame, to be cut into segments of 100. The connection's next packet has the
/// identification 0x5621: Linux counts one for each segment.
const Bytes linux_large =
    with_length(from_tap("01 01 36 00 64 00 22 00 10 00",
                         "52 54 00 00 00 01 52 54 00 00 00 02 08 00"
                         "45 00 01 22 56 1e 40 00 40 06 cf b5 0a 00 00 02 0a 00 00 01"
                         "8b f9 00 50 76 df 09 a8 00 00 13 89 50 18 ff dc 15 17 00 00") +
                letters(250));

/// 250 bytes as Linux cuts them itself where the card cannot.
const std::vector<Bytes> linux_segments{
    with_length(from_tap("",
                         "52 54 00 00 00 01 52 54 00 00 00 02 08 00"
                         "45 00 00 8c d6 84 40 00 40 06 4f e5 0a 00 00 02 0a 00 00 01"
                         "ab 35 00 50 73 a9 99 10 00 00 13 89 50 10 ff dc 01 c9 00 00") +
                letters(100)),
    with_length(from_tap("",
                         "52 54 00 00 00 01 52 54 00 00 00 02 08 00"
                         "45 00 00 8c d6 85 40 00 40 06 4f e4 0a 00 00 02 0a 00 00 01"
                         "ab 35 00 50 73 a9 99 74 00 00 13 89 50 10 ff dc 01 65 00 00") +
                letters(100)),
    with_length(from_tap("",
                         "52 54 00 00 00 01 52 54 00 00 00 02 08 00"
                         "45 00 00 5a d6 86 40 00 40 06 50 15 0a 00 00 02 0a 00 00 01"
                         "ab 35 00 50 73 a9 99 d8 00 00 13 89 50 18 ff dc e8 2a 00 00") +
                letters(50))};

/// One of everything.
std::vector<Bytes> samples() {
  std::vector<Bytes> all{linux_syn, linux_partial_syn, linux_large};
  all.insert(all.end(), linux_segments.begin(), linux_segments.end());
  for (const char* peer : {"10.0.0.1", "fd00::1"}) {
    const bool six = std::string_view(peer) == "fd00::1";
    for (const std::uint32_t vnet : {0u, 10u, 12u}) {
      Link link{.vnet = vnet, .source = six ? "fd00::2" : "10.0.0.2", .destination = peer};
      if (vnet == 10) link.checksum = Checksum::partial;
      if (vnet == 12) {
        link.vlans = {0x2005, 7};
        if (six) {
          link.extensions = {{0, Bytes(6)}, {60, Bytes(14)}};
        } else {
          link.ip_options = from_hex("94 04 00 00 01 01 01 00");
        }
      }
      all.push_back(tcp({.flags = 0x02, .options = syn_options(5)}, link));
      all.push_back(tcp({.options = timestamp_option(1, 2) + nop_option() + sack_option({{1, 2}}),
                         .payload = pattern(333),
                         .gso_size = static_cast<std::uint16_t>(vnet == 0 ? 0 : 100)},
                        link));
      all.push_back(udp({.payload = "a datagram"}, link));
      all.push_back(icmp({}, link));
      all.push_back(fragment(17, 1480, true, pattern(64), link));
      all.push_back(ip(47, "gre?", link));
      all.push_back(ethernet(0x88cc, "a neighbour", link));
    }
  }
  all.push_back(arp());
  all.push_back(arp(true, {.padding = 18}));
  return all;
}

// ---- Parsing

TEST(PacketParser, ReadsALinuxSyn) {
  const Packet packet = parsed(linux_syn);
  EXPECT_EQ(packet.kind, Kind::tcp);
  EXPECT_FALSE(packet.ipv6);
  EXPECT_EQ(packet.network, 22u);
  EXPECT_EQ(packet.transport, 42u);
  EXPECT_EQ(packet.payload, 82u);
  EXPECT_EQ(packet.payload_size, 0u);
  EXPECT_EQ(packet.seq, 0x73a9990fu);
  EXPECT_EQ(packet.ack, 0u);
  EXPECT_EQ(packet.window, 0xffdc);
  EXPECT_EQ(packet.flags, tcp_flag::syn);
  EXPECT_EQ(packet.sequence_length(), 1u);
  EXPECT_EQ(to_string(packet.key), "tcp 10.0.0.2:43829 > 10.0.0.1:80");
  const auto times = timestamps(linux_syn, packet);
  ASSERT_TRUE(times);
  EXPECT_EQ(times->value, 0x9038183cu);
  EXPECT_EQ(times->echo, 0u);
  expect_right(linux_syn);
}

TEST(PacketParser, ReadsALinuxFrameLeftToTheCardToChecksumAndCut) {
  expect_right(linux_partial_syn);
  const Packet packet = parsed(linux_large);
  EXPECT_EQ(packet.transport, 8u + 10 + 14 + 20);
  EXPECT_EQ(packet.payload_size, 250u);
  EXPECT_EQ(packet.flags, tcp_flag::psh | tcp_flag::ack);
  EXPECT_EQ(packet.ack, 5001u);
  expect_right(linux_large);
}

TEST(PacketParser, TellsTheKindsApart) {
  for (const Link& link : {Link{}, ipv6_link}) {
    EXPECT_EQ(parsed(tcp({}, link)).kind, Kind::tcp);
    EXPECT_EQ(parsed(udp({}, link)).kind, Kind::udp);
    EXPECT_EQ(parsed(icmp({}, link)).kind, Kind::icmp);
    EXPECT_EQ(parsed(fragment(6, 8, false, "x", link)).kind, Kind::fragment);
    EXPECT_EQ(parsed(ip(47, "x", link)).kind, Kind::ip);
  }
  EXPECT_EQ(parsed(ip(58, "12345678")).kind, Kind::ip) << "ICMPv6 in IPv4";
  EXPECT_EQ(parsed(ip(1, "12345678", ipv6_link)).kind, Kind::ip) << "ICMP in IPv6";
  EXPECT_EQ(parsed(arp()).kind, Kind::link);
  EXPECT_EQ(parsed(ethernet(0x0026, "a spanning tree, by its length")).kind, Kind::link);
  EXPECT_EQ(parsed(ethernet(0x0800, std::string(20, '\x65'))).kind, Kind::link) << "IP version 6";
}

TEST(PacketParser, FindsHeadersBehindOptionsAndVlanTags) {
  const Bytes content = bytes_of("content");
  for (const std::uint32_t vnet : {0u, 10u, 12u, 64u}) {
    const Bytes frame = tcp({.options = timestamp_option(1, 2), .payload = "content"},
                            {.vnet = vnet, .vlans = {1, 2}, .ip_options = nop_option(8)});
    const Packet packet = parsed(frame);
    EXPECT_EQ(packet.network, 8u + vnet + 14 + 8);
    EXPECT_EQ(packet.transport, packet.network + 28);
    EXPECT_EQ(packet.payload, packet.transport + 32);
    EXPECT_EQ(payload_of(frame), content);
  }
}

TEST(PacketParser, FollowsIpv6ExtensionHeaders) {
  Link link = ipv6_link;
  link.extensions = {{0, Bytes(6)}, {43, Bytes(22)}, {60, Bytes(6)}, {135, Bytes(14)}};
  const Packet packet = parsed(tcp({.payload = "content"}, link));
  EXPECT_EQ(packet.kind, Kind::tcp);
  EXPECT_EQ(packet.transport, network_at + 40 + 8 + 24 + 8 + 16);
  EXPECT_EQ(packet.payload_size, 7u);
}

TEST(PacketParser, RefusesEndlessChainsOfHeaders) {
  EXPECT_EQ(verdict(tcp({}, {.vlans = {1, 2}})), Malformed::none);
  EXPECT_EQ(verdict(tcp({}, {.vlans = {1, 2, 3}})), Malformed::header_chain);
  Link link = ipv6_link;
  link.extensions.assign(8, {60, Bytes(6)});
  EXPECT_EQ(verdict(tcp({}, link)), Malformed::none);
  link.extensions.assign(9, {60, Bytes(6)});
  EXPECT_EQ(verdict(tcp({}, link)), Malformed::header_chain);
}

TEST(PacketParser, KeepsWhatItCannotLookIntoWhole) {
  for (const auto next : std::to_array<std::uint8_t>({50, 51, 59, 4, 41})) {
    const Bytes frame = ip(next, "sealed", ipv6_link);
    const Packet packet = parsed(frame);
    EXPECT_EQ(packet.kind, Kind::ip);
    EXPECT_EQ(packet.key.protocol, next);
    EXPECT_EQ(payload_of(frame), bytes_of("sealed"));
  }
}

TEST(PacketParser, KnowsFragmentsByOffsetOrMoreToCome) {
  for (const Link& link : {Link{}, ipv6_link}) {
    const Packet first = parsed(fragment(17, 0, true, pattern(16), link));
    const Packet last = parsed(fragment(17, 16, false, pattern(5), link));
    EXPECT_EQ(first.kind, Kind::fragment);
    EXPECT_TRUE(first.more_fragments);
    EXPECT_EQ(first.fragment_offset, 0);
    EXPECT_EQ(last.kind, Kind::fragment);
    EXPECT_FALSE(last.more_fragments);
    EXPECT_EQ(last.fragment_offset, 16);
    EXPECT_EQ(last.payload_size, 5u);
    EXPECT_EQ(first.key, last.key);
    EXPECT_EQ(first.key.protocol, 17);
    EXPECT_EQ(first.key.guest_port, 0);
  }
}

TEST(PacketParser, TakesAnAtomicFragmentForAWholePacket) {
  Link link = ipv6_link;
  link.extensions = {{44, Bytes(7)}};
  EXPECT_EQ(parsed(tcp({.payload = "content"}, link)).kind, Kind::tcp);
  EXPECT_EQ(parsed(fragment(6, 0, false, std::string(20, '\x55'))).kind, Kind::tcp);
}

TEST(PacketParser, DoesNotTakePaddingForPayload) {
  for (const Link& link : {Link{}, ipv6_link}) {
    Link padded = link;
    padded.padding = 20;
    EXPECT_EQ(payload_of(tcp({.payload = "a"}, padded)), bytes_of("a"));
    EXPECT_EQ(payload_of(udp({.payload = "b"}, padded)), bytes_of("b"));
    EXPECT_EQ(parsed(icmp({.payload = "c"}, padded)).payload_size, 1u);
  }
}

TEST(PacketParser, CountsWhatAUdpLengthLeavesOutAsPayload) {
  const Bytes frame = udp({.payload = "seen and unseen"});
  EXPECT_EQ(payload_of(with_be16(frame, tcp_at + 4, 8 + 4)), bytes_of("seen and unseen"));
}

TEST(PacketParser, RefusesFramesWhoseLengthIsNotTheirs) {
  const Bytes frame = tcp({.payload = "content"});
  Bytes longer = frame;
  longer.push_back({});
  Bytes shorter = frame;
  shorter.pop_back();
  EXPECT_EQ(verdict(longer), Malformed::length);
  EXPECT_EQ(verdict(shorter), Malformed::length);
  EXPECT_EQ(verdict({}), Malformed::truncated);
  EXPECT_EQ(verdict(with_length(Bytes(8 + frame_length_max + 1))), Malformed::length);
}

TEST(PacketParser, RefusesVirtioHeadersOfNoKnownLength) {
  const Bytes frame = tcp({.payload = pattern(100)});
  for (const std::uint32_t length : {1u, 9u, 65u, 1u << 16, ~0u}) {
    Bytes wrong = frame;
    store_be(wrong.data() + 4, length);
    EXPECT_EQ(verdict(wrong), Malformed::length) << length;
  }
}

TEST(PacketParser, RefusesLengthsOfMoreThanThereIs) {
  const Bytes four = tcp({.payload = "content"});
  const Bytes six = tcp({.payload = "content"}, ipv6_link);
  const unsigned total = 20 + 20 + 7;
  EXPECT_EQ(verdict(with_be16(four, network_at + 2, total)), Malformed::none);
  EXPECT_EQ(verdict(with_be16(four, network_at + 2, total + 1)), Malformed::length);
  EXPECT_EQ(verdict(with_be16(four, network_at + 2, 19)), Malformed::length);
  EXPECT_EQ(verdict(with_byte(four, network_at, 0x44)), Malformed::length) << "header of 16 bytes";
  EXPECT_EQ(verdict(with_byte(ip(47, "content"), network_at, 0x44)), Malformed::length);
  EXPECT_EQ(verdict(with_byte(four, network_at, 0x4f)), Malformed::truncated) << "of 60, in 47";
  EXPECT_EQ(verdict(with_be16(six, network_at + 4, 20 + 7 + 1)), Malformed::length);
  EXPECT_EQ(verdict(with_be16(six, network_at + 4, 0)), Malformed::length) << "jumbo payload";
  EXPECT_EQ(verdict(with_byte(four, tcp_at + 12, 0x40)), Malformed::length) << "TCP header of 16";
  EXPECT_EQ(verdict(with_byte(four, tcp_at + 12, 0xf0)), Malformed::length) << "TCP header of 60";
  const Bytes datagram = udp({.payload = "content"});
  EXPECT_EQ(verdict(with_be16(datagram, tcp_at + 4, 8 + 7 + 1)), Malformed::length);
  EXPECT_EQ(verdict(with_be16(datagram, tcp_at + 4, 7)), Malformed::length);
  Link link = ipv6_link;
  link.extensions = {{60, Bytes(6)}};
  EXPECT_EQ(verdict(with_byte(tcp({}, link), tcp6_at + 1, 200)), Malformed::length);
}

TEST(PacketParser, RefusesPacketsTooShortForTheirHeader) {
  for (const Link& link : {Link{}, ipv6_link}) {
    EXPECT_EQ(verdict(ip(6, std::string(19, '\x50'), link)), Malformed::truncated);
    EXPECT_EQ(verdict(ip(17, "1234567", link)), Malformed::truncated);
    EXPECT_EQ(verdict(ip(link.source == "fd00::2" ? 58 : 1, "1234567", link)),
              Malformed::truncated);
  }
  EXPECT_EQ(verdict(ip(60, "1234567", ipv6_link)), Malformed::truncated);
  EXPECT_EQ(verdict(ethernet(0x0800, "")), Malformed::truncated);
}

// Each prefix lies in a heap block of exactly its size, so AddressSanitizer sees every byte that is
// read behind it.
TEST(PacketParser, NeverReadsBehindAFrameThatIsCutShort) {
  for (const Bytes& frame : samples()) {
    const Packet whole = parsed(frame);
    for (std::size_t size = 0; size < frame.size(); ++size) {
      const auto block = std::make_unique<std::byte[]>(size);
      std::copy_n(frame.begin(), size, block.get());
      const std::span<std::byte> cut(block.get(), size);
      Packet packet;
      EXPECT_NE(parse(cut, Direction::from_guest, packet), Malformed::none);
      if (size < 8) continue;
      store_be(cut.data(), static_cast<std::uint32_t>(size - 8));
      const Malformed reason = parse(cut, Direction::from_guest, packet);
      const bool cut_in_packet =
          whole.kind != Kind::link && size < whole.payload + whole.payload_size;
      if (cut_in_packet || size < whole.network) {
        EXPECT_NE(reason, Malformed::none) << size;
      } else if (reason == Malformed::none) {
        expect_inside(Bytes(cut.begin(), cut.end()), packet);
      }
    }
  }
}

TEST(PacketParser, RefusesOffloadThatDoesNotFitThePacket) {
  const Bytes four =
      tcp({.payload = pattern(300), .gso_size = 100}, {.checksum = Checksum::partial});
  const Bytes six =
      tcp({.payload = pattern(300), .gso_size = 100}, with(ipv6_link, Checksum::partial));
  const Bytes datagram =
      udp({.payload = pattern(300), .gso_size = 100}, {.checksum = Checksum::partial});
  constexpr std::size_t flags = vnet_at, type = vnet_at + 1, size = vnet_at + 4,
                        start = vnet_at + 6, offset = vnet_at + 8;
  const auto none = Malformed::none;
  const auto refused = Malformed::offload;
  EXPECT_EQ(verdict(with_byte(four, type, 0x81)), none) << "with ECN";
  EXPECT_EQ(verdict(with_byte(four, type, 4)), refused) << "IPv6 segments in IPv4";
  EXPECT_EQ(verdict(with_byte(four, type, 3)), refused) << "UDP segments in TCP";
  EXPECT_EQ(verdict(with_byte(four, type, 2)), refused) << "no such type";
  EXPECT_EQ(verdict(with_byte(four, type, 0x80)), refused) << "ECN and nothing to cut";
  EXPECT_EQ(verdict(with_byte(four, size, 0)), refused) << "segments of 0 bytes";
  EXPECT_EQ(verdict(with_byte(four, flags, 1 | 4)), refused) << "a flag of unknown meaning";
  EXPECT_EQ(verdict(with_byte(four, flags, 0)), none);
  EXPECT_EQ(verdict(with_byte(four, start, 35)), refused);
  EXPECT_EQ(verdict(with_byte(four, offset, 6)), refused);
  EXPECT_EQ(verdict(with_byte(four, offset + 1, 0xff)), refused) << "outside the frame";
  EXPECT_EQ(verdict(with_byte(six, type, 0x84)), none);
  EXPECT_EQ(verdict(with_byte(six, type, 1)), refused);
  EXPECT_EQ(verdict(with_byte(datagram, type, 5)), none) << "UDP segmentation";
  EXPECT_EQ(verdict(with_byte(datagram, type, 0x83)), refused) << "UDP knows no ECN";
  EXPECT_EQ(verdict(with_byte(datagram, type, 1)), refused);
  EXPECT_EQ(verdict(with_byte(datagram, offset, 16)), refused);
  EXPECT_EQ(verdict(with_byte(arp(), type, 1)), refused);
  const Bytes request = with_byte(arp(), flags, 1);
  EXPECT_EQ(verdict(request), none) << "a checksum of no known kind, inside the frame";
  EXPECT_EQ(verdict(with_byte(request, start, 14 + 28 - 1)), refused);
}

// ---- Flow keys

TEST(PacketKey, IsTheSameForBothDirections) {
  for (const Link& link : {Link{.vlans = {9}}, ipv6_link}) {
    const auto key = [](const Bytes& frame, Direction direction) {
      return parsed(frame, direction).key;
    };
    EXPECT_EQ(key(tcp({}, link), Direction::from_guest),
              key(tcp(reversed(Tcp{}), reversed(link)), Direction::to_guest));
    EXPECT_EQ(key(icmp({.reply = true}, link), Direction::from_guest),
              key(icmp({.reply = false}, reversed(link)), Direction::to_guest));
    EXPECT_FALSE(key(tcp({}, link), Direction::from_guest) ==
                 key(tcp({}, link), Direction::to_guest));
  }
  EXPECT_EQ(parsed(arp(true), Direction::from_guest).key,
            parsed(arp(true, reversed(Link{})), Direction::to_guest).key);
}

TEST(PacketKey, HoldsTheGuestAtTheGuestsEnd) {
  const Packet out = parsed(tcp());
  EXPECT_EQ(out.key.guest_port, 6379);
  EXPECT_EQ(out.key.peer_port, 40000);
  EXPECT_THAT(Bytes(out.key.guest.begin(), out.key.guest.end()),
              testing::ElementsAreArray(from_hex("00000000000000000000ffff0a000002")));
  const Packet in = parsed(tcp(), Direction::to_guest);
  EXPECT_EQ(in.key.guest_port, 40000);
  EXPECT_EQ(in.key.peer, out.key.guest);
  const Packet link = parsed(arp());
  EXPECT_THAT(Bytes(link.key.guest.begin(), link.key.guest.begin() + 6),
              testing::ElementsAreArray(from_hex("525400000002")));
  EXPECT_EQ(link.key.protocol, 0x0806);
  EXPECT_EQ(parsed(ethernet(0x0026, "by length")).key.protocol, 0);
}

TEST(PacketKey, HoldsVlansButNotTheirPriority) {
  const auto vlan = [](std::vector<std::uint16_t> tags) {
    return parsed(tcp({}, {.vlans = std::move(tags)})).key.vlan;
  };
  EXPECT_EQ(vlan({}), 0);
  EXPECT_EQ(vlan({5}), vlan({0xe005}));
  const std::unordered_set<std::uint16_t> different{vlan({}),     vlan({0}),    vlan({5}),
                                                    vlan({6}),    vlan({5, 6}), vlan({6, 5}),
                                                    vlan({5, 5}), vlan({0, 5})};
  EXPECT_EQ(different.size(), 8u);
}

TEST(PacketKey, HoldsTheIdentifierOfAnEchoOnly) {
  EXPECT_EQ(parsed(icmp({.identifier = 77})).key.guest_port, 77);
  EXPECT_EQ(parsed(icmp({.identifier = 77}, ipv6_link)).key.peer_port, 77);
  const Bytes unreachable = with_byte(icmp({.identifier = 77}), tcp_at, 3);
  EXPECT_EQ(parsed(unreachable).key.guest_port, 0);
}

TEST(PacketKey, HashesEqualKeysEquallyAndOthersApart) {
  std::unordered_set<std::size_t> hashes;
  std::vector<unsigned> buckets(1024);
  std::size_t keys = 0;
  FlowKey key = parsed(tcp()).key;
  for (std::uint16_t port = 0; port < 32768; ++port) {
    // Neighbouring ports and addresses, as one client's connections have them.
    key.peer_port = static_cast<std::uint16_t>(port & 0xff);
    key.peer[15] = static_cast<std::byte>(port >> 8);
    const std::size_t hash = hash_value(key);
    const FlowKey copy = key;
    ASSERT_EQ(hash_value(copy), hash);
    hashes.insert(hash);
    ++buckets[hash % buckets.size()];
    ++keys;
  }
  EXPECT_EQ(hashes.size(), keys);
  // 32 on average; Poisson: beyond 80 is less likely than 10^-11.
  EXPECT_LT(*std::ranges::max_element(buckets), 80u);
  EXPECT_GT(*std::ranges::min_element(buckets), 1u);
}

TEST(PacketKey, HashesEveryField) {
  const FlowKey key = parsed(tcp()).key;
  std::unordered_set<std::size_t> hashes{hash_value(key)};
  for (std::size_t i = 0; i < 16; ++i) {
    FlowKey guest = key;
    guest.guest[i] ^= std::byte{1};
    FlowKey peer = key;
    peer.peer[i] ^= std::byte{1};
    hashes.insert(hash_value(guest));
    hashes.insert(hash_value(peer));
  }
  FlowKey other = key;
  ++other.guest_port;
  hashes.insert(hash_value(other));
  other = key;
  ++other.peer_port;
  hashes.insert(hash_value(other));
  other = key;
  ++other.vlan;
  hashes.insert(hash_value(other));
  other = key;
  ++other.protocol;
  hashes.insert(hash_value(other));
  other = key;
  other.kind = Kind::ip;
  hashes.insert(hash_value(other));
  EXPECT_EQ(hashes.size(), 1u + 32 + 5);
}

// Run by the test below, in a process of its own.
TEST(PacketKey, DISABLED_PrintsAHash) {
  std::printf("hash %zu\n", hash_value(FlowKey{}));
}

TEST(PacketKey, HashesDifferentlyInEveryProcess) {
  const auto hash_of_a_process = [] {
    std::string found;
    FILE* output = popen(
        "/proc/$PPID/exe --gtest_also_run_disabled_tests "
        "--gtest_filter=PacketKey.DISABLED_PrintsAHash",
        "r");
    if (output == nullptr) return found;
    char line[256];
    while (std::fgets(line, sizeof line, output) != nullptr) {
      if (std::string_view(line).starts_with("hash ")) found = line;
    }
    pclose(output);
    return found;
  };
  const std::string one = hash_of_a_process();
  const std::string other = hash_of_a_process();
  ASSERT_FALSE(one.empty());
  ASSERT_FALSE(other.empty());
  EXPECT_NE(one, other);
}

TEST(PacketKey, ReadsWell) {
  const auto text = [](const Bytes& frame) { return to_string(parsed(frame).key); };
  EXPECT_EQ(text(tcp()), "tcp 10.0.0.2:6379 > 10.0.0.1:40000");
  EXPECT_EQ(text(udp({}, ipv6_link)), "udp [fd00::2]:53 > [fd00::1]:40000");
  EXPECT_EQ(text(icmp()), "icmp 10.0.0.2 > 10.0.0.1 id 7");
  EXPECT_EQ(text(fragment(17, 8, true, "12345678")), "fragment 10.0.0.2 > 10.0.0.1 protocol 17");
  EXPECT_EQ(text(ip(47, "x", {.vlans = {5}})), "ip 10.0.0.2 > 10.0.0.1 protocol 47 vlan 5");
  EXPECT_EQ(text(arp()), "link 52:54:00:00:00:02 > ff:ff:ff:ff:ff:ff type 0x0806");
}

// ---- Timestamps

TEST(PacketTimestamps, AreFoundBehindOtherOptionsAndAtOddPlaces) {
  const Bytes frame =
      tcp({.options = mss_option(1460) + from_hex("01 08 0a 00 00 00 11 00 00 00 22")});
  const auto times = timestamps(frame, parsed(frame));
  ASSERT_TRUE(times);
  EXPECT_EQ(times->offset, tcp_at + 20 + 4 + 1 + 2);
  EXPECT_EQ(times->value, 0x11u);
  EXPECT_EQ(times->echo, 0x22u);
}

TEST(PacketTimestamps, AreAbsentWhereOptionsMakeNoSense) {
  for (const char* options : {"", "01 01 01 01", "00 08 0a 00 00 00 11 00 00 00 22",  // ended
                              "02 00 08 0a 00 00 00 11 00 00 00 22",                  // length 0
                              "02 01 08 0a 00 00 00 11 00 00 00 22",                  // length 1
                              "08 08 00 00 00 11 00 00",                              // too short
                              "08 0a 00 00", "01 01 01 08"}) {                        // cut off
    const Bytes frame = tcp({.options = from_hex(options), .payload = "12345678901234567890"});
    EXPECT_FALSE(timestamps(frame, parsed(frame))) << options;
  }
  const Bytes datagram = udp({.payload = "12345678901234567890"});
  EXPECT_FALSE(timestamps(datagram, parsed(datagram)));
}

TEST(PacketTimestamps, AreNotLookedForBehindTheFrame) {
  const Bytes frame = tcp({.options = from_hex("01 01 01 08")});
  const Bytes exact = frame;  // a copy has no room behind it: AddressSanitizer sees a byte too far
  EXPECT_FALSE(timestamps(exact, parsed(exact)));
}

TEST(SerialNumbers, AreOrderedAcrossTheirWrap) {
  EXPECT_TRUE(before(1, 2));
  EXPECT_FALSE(before(2, 1));
  EXPECT_FALSE(before(2, 2));
  EXPECT_TRUE(at_or_before(2, 2));
  EXPECT_TRUE(before(0xffff'fff0, 5));
  EXPECT_FALSE(before(5, 0xffff'fff0));
  EXPECT_TRUE(at_or_before(0xffff'fff0, 5));
}

// ---- Shifting

struct Numbers {
  std::uint32_t seq, ack, value, echo;
  std::vector<std::uint32_t> sack;
};

/// What a frame made by sample_segment() holds.
Numbers numbers_of(const Bytes& frame, std::size_t blocks) {
  const Packet packet = parsed(frame);
  const auto times = timestamps(frame, packet);
  Numbers numbers{packet.seq, packet.ack, times ? times->value : 0, times ? times->echo : 0, {}};
  const std::byte* edge = frame.data() + packet.transport + 20 + 12 + 1 + 2;
  for (std::size_t i = 0; i < 2 * blocks; ++i, edge += 4) {
    numbers.sack.push_back(load_be<std::uint32_t>(edge));
  }
  return numbers;
}

/// Timestamps at an even and SACK blocks at an odd offset.
Tcp sample_segment(std::size_t payload = 33) {
  return {.seq = 0xffff'fff0,
          .ack = 7,
          .flags = tcp_flag::ack | tcp_flag::psh,
          .options = timestamp_option(0x8000'0001, 0xffff'ffff) + nop_option() +
                     sack_option({{100, 0xffff'ff00}, {3, 4}}),
          .payload = pattern(payload)};
}

std::vector<Link> links_of_all_kinds() {
  std::vector<Link> links;
  for (const Link& base : {Link{}, ipv6_link}) {
    for (const Checksum checksum : {Checksum::complete, Checksum::partial, Checksum::valid}) {
      links.push_back(with(base, checksum));
      links.back().vlans = {5};
      links.back().vnet = 10;
      links.push_back(with(base, checksum));
      links.back().padding = 1;
    }
    links.push_back(base);
    links.back().vnet = 0;
  }
  return links;
}

constexpr TcpShift some_shift{
    .seq = 0x10, .ack = 0xffff'fff8, .sack = 0x7fff'0001, .timestamp = 0x8000'0000, .echo = 2};
constexpr TcpShift opposite(const TcpShift& by) {
  return {0u - by.seq, 0u - by.ack, 0u - by.sack, 0u - by.timestamp, 0u - by.echo};
}

TEST(PacketShift, MovesEveryNumberAndKeepsTheChecksum) {
  for (const Link& link : links_of_all_kinds()) {
    Bytes frame = tcp(sample_segment(), link);
    const Bytes before_it = frame;
    shift(frame, parsed(frame), some_shift);
    expect_right(frame);
    const Numbers numbers = numbers_of(frame, 2);
    EXPECT_EQ(numbers.seq, 0u);
    EXPECT_EQ(numbers.ack, 0xffff'ffffu);
    EXPECT_EQ(numbers.value, 1u);
    EXPECT_EQ(numbers.echo, 1u);
    EXPECT_THAT(numbers.sack, ElementsAre(0x7fff'0065u, 0x7ffe'ff01u, 0x7fff'0004u, 0x7fff'0005u));
    EXPECT_EQ(payload_of(frame), payload_of(before_it));
    shift(frame, parsed(frame), opposite(some_shift));
    EXPECT_EQ(frame, before_it);
  }
}

TEST(PacketShift, ChangesOneNumberWithoutTheOthers) {
  const Bytes frame = tcp(sample_segment());
  const auto after = [&](const TcpShift& by) {
    Bytes changed = frame;
    shift(changed, parsed(frame), by);
    expect_right(changed);
    return numbers_of(changed, 2);
  };
  EXPECT_EQ(after({.seq = 1}).seq, 0xffff'fff1u);
  EXPECT_EQ(after({.seq = 1}).ack, 7u);
  EXPECT_EQ(after({.ack = 1}).ack, 8u);
  EXPECT_THAT(after({.ack = 1}).sack, ElementsAre(100u, 0xffff'ff00u, 3u, 4u));
  EXPECT_THAT(after({.sack = 1}).sack, ElementsAre(101u, 0xffff'ff01u, 4u, 5u));
  EXPECT_EQ(after({.sack = 1}).ack, 7u);
  EXPECT_EQ(after({.timestamp = 1}).value, 0x8000'0002u);
  EXPECT_EQ(after({.timestamp = 1}).echo, 0xffff'ffffu);
  EXPECT_EQ(after({.echo = 1}).echo, 0u);
  EXPECT_EQ(after({.echo = 1}).value, 0x8000'0001u);
}

// Every value that the checksum can take, 0 and next to 0xffff among them.
TEST(PacketShift, KeepsEveryChecksumRight) {
  for (const Link& link : {Link{}, ipv6_link}) {
    Bytes frame = tcp({.options = nop_option() + from_hex("08 0a 00 00 00 00 00 00 00 01")}, link);
    const Packet packet = parsed(frame);
    std::vector<bool> seen(65536);
    for (int i = 0; i < 65536; ++i) {
      shift(frame, packet, {.timestamp = 1});
      ASSERT_EQ(reference_errors(frame), "") << i;
      ASSERT_TRUE(checksums_are_right(frame, packet)) << i;
      seen[load_be<std::uint16_t>(frame.data() + packet.transport + 16)] = true;
    }
    EXPECT_TRUE(seen[0]);
    EXPECT_TRUE(seen[0xfffe]);
    EXPECT_FALSE(seen[0xffff]) << "which a TCP sender never computes";
  }
}

TEST(PacketShift, LeavesThePartialChecksumAlone) {
  Bytes frame = tcp(sample_segment(), {.checksum = Checksum::partial});
  const Packet packet = parsed(frame);
  const auto field = [&] { return load_be<std::uint16_t>(frame.data() + packet.transport + 16); };
  const auto old = field();
  shift(frame, packet, some_shift);
  EXPECT_EQ(field(), old);
}

TEST(PacketShift, DoesNotMendAWrongChecksum) {
  Bytes frame = tcp(sample_segment(), {.checksum = Checksum::wrong});
  shift(frame, parsed(frame), some_shift);
  EXPECT_EQ(reference_errors(frame), "checksum");
  EXPECT_FALSE(checksums_are_right(frame, parsed(frame)));
}

TEST(PacketShift, LeavesUnusedFieldsOfASynAlone) {
  Bytes frame = tcp({.ack = 0, .flags = tcp_flag::syn, .options = syn_options(100)});
  shift(frame, parsed(frame), some_shift);
  expect_right(frame);
  const Packet packet = parsed(frame);
  EXPECT_EQ(packet.seq, 1000u + 0x10);
  EXPECT_EQ(packet.ack, 0u);
  EXPECT_EQ(timestamps(frame, packet)->value, 100 + 0x8000'0000u);
  EXPECT_EQ(timestamps(frame, packet)->echo, 0u);
}

TEST(PacketShift, ChangesNothingButTcp) {
  for (Bytes frame : {udp({.payload = pattern(40)}), icmp({.payload = pattern(40)}), arp(),
                      fragment(6, 0, true, pattern(40)), ip(47, pattern(40))}) {
    const Bytes old = frame;
    shift(frame, parsed(frame), some_shift);
    set_ack(frame, parsed(frame), 1);
    EXPECT_EQ(frame, old);
    Bytes out;
    append_piece(frame, parsed(frame), 0, 10, out);
    append_acknowledgement(frame, parsed(frame), 1, 2, out);
    EXPECT_TRUE(out.empty());
  }
}

TEST(PacketShift, StopsWhereOptionsMakeNoSense) {
  Bytes frame = tcp({.options = from_hex("05 09 00 00 00 01 00 00 00"  // one byte short: no block
                                         "08 00 ff ff ff ff ff"),
                     .payload = "content"});
  const Bytes old = frame;
  shift(frame, parsed(frame), {.sack = 1, .timestamp = 1, .echo = 1});
  EXPECT_EQ(frame, old);
}

TEST(PacketSetAck, SetsTheNumberAndKeepsTheChecksum) {
  for (const Link& link : links_of_all_kinds()) {
    Bytes frame = tcp(sample_segment(), link);
    set_ack(frame, parsed(frame), 0xdead'beef);
    expect_right(frame);
    EXPECT_EQ(parsed(frame).ack, 0xdead'beefu);
    EXPECT_EQ(parsed(frame).seq, 0xffff'fff0u);
    set_ack(frame, parsed(frame), 7);
    EXPECT_EQ(frame, tcp(sample_segment(), link));
  }
}

// ---- Pieces

TEST(PacketPiece, IsWhatLinuxMakesOfALargeSegment) {
  const std::string content(reinterpret_cast<const char*>(letters(250).data()), 250);
  for (const Checksum checksum : {Checksum::complete, Checksum::partial}) {
    const Bytes large = tcp({.source_port = 0xab35,
                             .destination_port = 80,
                             .seq = 0x73a99910,
                             .ack = 5001,
                             .flags = tcp_flag::ack | tcp_flag::psh,
                             .window = 0xffdc,
                             .payload = content,
                             .gso_size = 100},
                            {.vnet = 10, .ip_id = 0xd684, .checksum = checksum});
    std::uint32_t from = 0;
    for (const Bytes& segment : linux_segments) {
      const auto size = parsed(segment).payload_size;
      Bytes made = piece(large, from, from + size);
      from += size;
      expect_right(made);
      if (checksum == Checksum::partial) {
        const Packet packet = parsed(made);
        std::copy_n(segment.begin() + 8 + 14 + 20 + 16, 2, made.begin() + packet.transport + 16);
      }
      made.erase(made.begin() + 8, made.begin() + 18);
      EXPECT_TRUE(std::ranges::equal(std::span(made).subspan(8), std::span(segment).subspan(8)));
    }
  }
}

TEST(PacketPiece, IsRightForEveryKindOfFrame) {
  for (const Link& link : links_of_all_kinds()) {
    for (const auto gso_size : std::to_array<std::uint16_t>({0, 500})) {
      if (link.vnet == 0 && gso_size != 0) continue;
      Tcp segment = sample_segment(1999);
      segment.gso_size = gso_size;
      const Bytes frame = tcp(segment, link);
      const Bytes content = bytes_of(segment.payload);
      for (const auto& [from, to] :
           std::vector<std::pair<std::uint32_t, std::uint32_t>>{{0, 1999},
                                                                {0, 0},
                                                                {0, 1},
                                                                {1, 2},
                                                                {1, 1999},
                                                                {7, 1900},
                                                                {500, 1000},
                                                                {501, 1001},
                                                                {1999, 1999}}) {
        const Bytes made = piece(frame, from, to);
        expect_right(made);
        const Packet packet = parsed(made);
        EXPECT_EQ(packet.seq, segment.seq + from);
        EXPECT_EQ(packet.ack, segment.ack);
        EXPECT_EQ(packet.window, segment.window);
        EXPECT_EQ(packet.key, parsed(frame).key);
        EXPECT_EQ(payload_of(made), Bytes(content.begin() + from, content.begin() + to));
        EXPECT_EQ(numbers_of(made, 2).sack, numbers_of(frame, 2).sack);
      }
    }
  }
}

TEST(PacketPiece, OfTheWholePayloadIsTheFrameWithoutItsPadding) {
  for (Link link : links_of_all_kinds()) {
    link.padding = 0;
    const Bytes frame = tcp(sample_segment(), link);
    link.padding = 5;
    EXPECT_EQ(piece(tcp(sample_segment(), link), 0, 33), frame);
  }
}

TEST(PacketPiece, KeepsEachFlagAtItsPlace) {
  using namespace tcp_flag;
  const std::uint8_t all = fin | syn | rst | psh | ack | urg | ece | cwr;
  const Bytes frame = tcp({.flags = all, .urgent = 3, .payload = "content"});
  const auto flags = [&](std::uint32_t from, std::uint32_t to) {
    return parsed(piece(frame, from, to)).flags;
  };
  EXPECT_EQ(flags(0, 7), all);
  EXPECT_EQ(flags(0, 3), syn | ack | urg | ece | cwr);
  EXPECT_EQ(flags(3, 5), ack | ece);
  EXPECT_EQ(flags(3, 7), fin | rst | psh | ack | ece);
  EXPECT_EQ(flags(7, 7), fin | rst | psh | ack | ece);
  EXPECT_EQ(flags(0, 0), syn | ack | urg | ece | cwr);
  const auto urgent = [&](std::uint32_t from, std::uint32_t to) {
    const Bytes made = piece(frame, from, to);
    return load_be<std::uint16_t>(made.data() + tcp_at + 18);
  };
  EXPECT_EQ(urgent(0, 3), 3);
  EXPECT_EQ(urgent(3, 7), 0);
}

TEST(PacketPiece, LeavesOutAFlagThatIsTakenOutOfThePacket) {
  const Bytes frame =
      tcp({.flags = tcp_flag::ack | tcp_flag::fin | tcp_flag::psh, .payload = "content"});
  Packet open = parsed(frame);
  open.flags &= static_cast<std::uint8_t>(~tcp_flag::fin);
  Bytes out;
  append_piece(frame, open, 0, 7, out);
  expect_right(out);
  EXPECT_EQ(parsed(out).flags, tcp_flag::ack | tcp_flag::psh);
  EXPECT_EQ(payload_of(out), bytes_of("content"));
}

TEST(PacketPiece, CountsTheSynBeforeThePayload) {
  const Bytes frame = tcp({.seq = 1000, .flags = tcp_flag::syn, .payload = "fast open"});
  EXPECT_EQ(parsed(piece(frame, 0, 4)).seq, 1000u);
  EXPECT_EQ(parsed(piece(frame, 0, 4)).sequence_length(), 5u);
  EXPECT_EQ(parsed(piece(frame, 4, 9)).seq, 1005u);
}

TEST(PacketPiece, AtTheEndIsAnAcknowledgementOrTheFinAlone) {
  const Bytes plain = piece(tcp({.seq = 1000, .payload = "content"}), 7, 7);
  EXPECT_EQ(parsed(plain).payload_size, 0u);
  EXPECT_EQ(parsed(plain).seq, 1007u);
  EXPECT_EQ(parsed(plain).sequence_length(), 0u);
  const std::uint8_t last = tcp_flag::ack | tcp_flag::fin;
  const Bytes fin = piece(tcp({.seq = 1000, .flags = last, .payload = "content"}), 7, 7);
  EXPECT_EQ(parsed(fin).seq, 1007u);
  EXPECT_EQ(parsed(fin).sequence_length(), 1u);
}

TEST(PacketPiece, EndsWhereThePayloadEnds) {
  const Bytes frame = tcp({.payload = "content"}, {.padding = 9});
  EXPECT_EQ(piece(frame, 3, 1000), piece(frame, 3, 7));
  EXPECT_EQ(piece(frame, 1000, ~0u), piece(frame, 7, 7));
}

TEST(PacketPiece, IsCutByTheCardOnlyIfItIsStillTooLong) {
  const Bytes frame =
      tcp({.options = timestamp_option(1, 2), .payload = pattern(350), .gso_size = 100},
          {.checksum = Checksum::partial});
  struct Header {
    unsigned flags, type, header_length, size;
  };
  const auto header = [&](std::uint32_t from, std::uint32_t to) {
    const Bytes made = piece(frame, from, to);
    const auto byte = [&](std::size_t i) { return std::to_integer<unsigned>(made[vnet_at + i]); };
    return Header{byte(0), byte(1), byte(2) | byte(3) << 8, byte(4) | byte(5) << 8};
  };
  const unsigned headers = 14 + 20 + 32;
  const Header one = header(100, 200);
  EXPECT_EQ(one.flags, 1u);
  EXPECT_EQ(one.type, 0u);
  EXPECT_EQ(one.size, 0u);
  EXPECT_EQ(one.header_length, headers);
  const Header two = header(100, 201);
  EXPECT_EQ(two.flags, 1u);
  EXPECT_EQ(two.type, 1u);
  EXPECT_EQ(two.size, 100u);
  EXPECT_EQ(two.header_length, headers);
}

// Linux says how much of a frame was in one place, which may be more than the headers; a tap
// refuses a frame that is shorter.
TEST(PacketPiece, HasNoHeaderLengthBeyondItsEnd) {
  Bytes frame = tcp({.payload = pattern(350), .gso_size = 100}, {.checksum = Checksum::partial});
  frame[vnet_at + 2] = std::byte{200};
  expect_right(frame);
  expect_right(piece(frame, 0, 10));
  expect_right(piece(frame, 0, 250));
}

TEST(PacketPiece, KeepsEcnWithTheSegmentThatAnnouncesIt) {
  const Bytes frame = tcp({.flags = tcp_flag::ack | tcp_flag::cwr,
                           .payload = pattern(500),
                           .gso_size = 100,
                           .gso_ecn = true},
                          {.checksum = Checksum::partial});
  EXPECT_EQ(piece(frame, 0, 250).at(vnet_at + 1), std::byte{0x81});
  EXPECT_EQ(piece(frame, 250, 500).at(vnet_at + 1), std::byte{0x01});
}

TEST(PacketPiece, CountsOnTheIdentificationAsSegmentsDo) {
  const Bytes frame = tcp({.payload = pattern(350), .gso_size = 100}, {.ip_id = 0xffff});
  const auto id = [](const Bytes& made) {
    return load_be<std::uint16_t>(made.data() + network_at + 4);
  };
  EXPECT_EQ(id(piece(frame, 0, 350)), 0xffff);
  EXPECT_EQ(id(piece(frame, 100, 200)), 0);
  EXPECT_EQ(id(piece(frame, 150, 200)), 1);
  EXPECT_EQ(id(piece(frame, 300, 350)), 2);
  const Bytes small = tcp({.payload = pattern(100)}, {.ip_id = 5});
  EXPECT_EQ(id(piece(small, 0, 50)), 5);
  EXPECT_EQ(id(piece(small, 50, 100)), 6);
}

TEST(PacketPiece, DoesNotMendAWrongChecksum) {
  const Bytes frame = tcp({.payload = "content"}, {.checksum = Checksum::wrong});
  EXPECT_EQ(reference_errors(piece(frame, 1, 3)), "checksum");
}

TEST(PacketPiece, KeepsTheChecksumBehindARoutingHeader) {
  // The pseudo-header holds the last of the addresses on the route; here, the sum that the sender
  // made with it is off by a constant from the one with the IP header's destination.
  Link link = ipv6_link;
  link.destination = "fd00::99";
  Bytes route = from_hex("02 01 00 00 00 00");
  route += detail::address("fd00::1");
  const auto on_its_way = [&](const std::string& content, std::uint32_t seq) {
    link.destination = "fd00::1";
    link.extensions = {{43, route}};
    Bytes frame = tcp({.seq = seq, .payload = content}, link);
    const Bytes hop = detail::address("fd00::99");
    std::copy(hop.begin(), hop.end(), frame.begin() + network_at + 24);
    return frame;
  };
  const Bytes frame = on_its_way("content", 1000);
  EXPECT_TRUE(checksums_are_right(frame, parsed(frame)));
  EXPECT_EQ(piece(frame, 2, 7), on_its_way("ntent", 1002));
}

TEST(PacketPiece, IsAppended) {
  const Bytes frame = tcp({.payload = "content"});
  Bytes out = from_hex("01 02 03");
  append_piece(frame, parsed(frame), 0, 3, out);
  append_piece(frame, parsed(frame), 3, 7, out);
  ASSERT_THAT(Bytes(out.begin(), out.begin() + 3),
              ElementsAre(std::byte{1}, std::byte{2}, std::byte{3}));
  const auto frames = split(std::span(out).subspan(3));
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(payload_of(frames[0]), bytes_of("con"));
  EXPECT_EQ(payload_of(frames[1]), bytes_of("tent"));
}

// ---- Acknowledgements

TEST(PacketAcknowledgement, CarriesNumbersWindowAndOptionsAndNothingElse) {
  using namespace tcp_flag;
  for (const Link& link : links_of_all_kinds()) {
    Tcp segment = sample_segment(1999);
    segment.flags = fin | syn | rst | psh | urg | cwr | ece;
    segment.urgent = 4;
    if (link.vnet != 0) segment.gso_size = 500;
    const Bytes frame = tcp(segment, link);
    Bytes made;
    append_acknowledgement(frame, parsed(frame), 0xffff'fff5, 12, made);
    expect_right(made);
    const Packet packet = parsed(made);
    EXPECT_EQ(packet.seq, 0xffff'fff5u);
    EXPECT_EQ(packet.ack, 12u);
    EXPECT_EQ(packet.window, segment.window);
    EXPECT_EQ(packet.flags, ack | ece);
    EXPECT_EQ(packet.payload_size, 0u);
    EXPECT_EQ(packet.key, parsed(frame).key);
    EXPECT_EQ(numbers_of(made, 2).value, 0x8000'0001u);
    EXPECT_EQ(load_be<std::uint16_t>(made.data() + packet.transport + 18), 0);
    EXPECT_EQ(made.size(), packet.payload) << "no padding";
  }
}

// ---- Checksums

TEST(PacketChecksums, AreRightInWhatTheBuilderMakes) {
  for (const Bytes& frame : samples()) {
    EXPECT_EQ(reference_errors(frame), "");
    EXPECT_TRUE(checksums_are_right(frame, parsed(frame)));
  }
  for (const Link& link : links_of_all_kinds()) {
    expect_right(tcp(sample_segment(), link));
    expect_right(udp({.payload = "odd"}, link));
  }
}

TEST(PacketChecksums, AreWrongIfAnyCoveredByteIs) {
  Link link{.ip_options = nop_option(4)};
  for (const Bytes& frame : {tcp({.payload = "odd"}, link), udp({.payload = "odd"}, link),
                             icmp({.payload = "odd"}, link), udp({.payload = "odd"}, ipv6_link),
                             icmp({.payload = "odd"}, ipv6_link)}) {
    const Packet packet = parsed(frame);
    const bool six = packet.ipv6;
    for (std::size_t at = packet.network; at < frame.size(); ++at) {
      // IPv6 has no checksum of its own: only the addresses are covered, by the pseudo-header.
      if (six && at < packet.network + 8) continue;
      const Bytes wrong = with_byte(frame, at, std::to_integer<unsigned>(frame[at]) ^ 0x04);
      Packet changed;
      if (parse(wrong, Direction::from_guest, changed) != Malformed::none) continue;
      if (changed.kind != packet.kind || changed.payload != packet.payload) continue;
      EXPECT_FALSE(checksums_are_right(wrong, changed)) << at;
    }
  }
}

TEST(PacketChecksums, MayBeAbsentFromUdpOnly) {
  const Bytes datagram = udp({.payload = "odd"}, {.checksum = Checksum::none});
  EXPECT_TRUE(checksums_are_right(datagram, parsed(datagram)));
  const Bytes segment = tcp({.payload = "odd"}, {.checksum = Checksum::none});
  EXPECT_FALSE(checksums_are_right(segment, parsed(segment)));
}

TEST(PacketChecksums, OfPartialFramesAreThePseudoHeaders) {
  for (const Link& link : {Link{}, ipv6_link}) {
    const Bytes frame = tcp({.payload = "odd"}, with(link, Checksum::partial));
    const Packet packet = parsed(frame);
    EXPECT_TRUE(checksums_are_right(frame, packet));
    EXPECT_TRUE(checksums_are_right(with_byte(frame, frame.size() - 1, 0), packet))
        << "the payload is not covered yet";
    const std::size_t field = packet.transport + 17;
    EXPECT_FALSE(checksums_are_right(
        with_byte(frame, field, std::to_integer<unsigned>(frame[field]) ^ 1), packet));
  }
}

TEST(PacketText, NamesEveryReasonAndKind) {
  EXPECT_EQ(to_string(Malformed::none), "none");
  EXPECT_EQ(to_string(Malformed::truncated), "truncated");
  EXPECT_EQ(to_string(Malformed::length), "length");
  EXPECT_EQ(to_string(Malformed::header_chain), "header chain");
  EXPECT_EQ(to_string(Malformed::offload), "offload");
  EXPECT_EQ(to_string(Kind::fragment), "fragment");
  EXPECT_EQ(to_string(Kind::link), "link");
}

}  // namespace
}  // namespace tandem::proxy
