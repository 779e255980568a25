#include "proxy/datagram_compare.hpp"

#include <algorithm>

#include "base/big_endian.hpp"
#include "proxy/chardev_framing.hpp"

namespace tandem::proxy {

namespace {

/// Ethernet frames are padded to this by whoever puts them on a wire.
constexpr std::size_t ethernet_size_min = 60;

struct Difference {
  Reason reason;
  std::size_t at = 0;  ///< in what is compared
  std::string detail;
};

/// What is compared of a frame beside its flow's key. IP headers and UDP checksums are not.
std::span<const std::byte> content_of(const WaitingFrame& frame) {
  const Packet& packet = frame.packet;
  if (packet.kind == Kind::link) {
    const std::size_t ethernet =
        frame_prefix_size + std::size_t{load_be<std::uint32_t>(frame.bytes + 4)};
    return frame.frame().subspan(ethernet);
  }
  return frame.frame().subspan(packet.transport,
                               packet.payload + packet.payload_size - packet.transport);
}

/// Where in the content a checksum stands, which is not compared; its end if there is none.
std::pair<std::size_t, std::size_t> checksum_of(const Packet& packet) {
  if (packet.kind == Kind::udp) return {6, 8};
  if (packet.kind == Kind::icmp) return {2, 4};
  return {0, 0};
}

/// One has been padded to Ethernet's least length, and the other not.
bool differ_in_padding_only(std::span<const std::byte> a, std::span<const std::byte> b) {
  const auto& longer = a.size() > b.size() ? a : b;
  const std::size_t common = std::min(a.size(), b.size());
  if (longer.size() > ethernet_size_min) return false;
  if (equal_bytes(a.data(), b.data(), common) != common) return false;
  return std::all_of(longer.begin() + static_cast<std::ptrdiff_t>(common), longer.end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

std::optional<Difference> compare(const WaitingFrame& ours, const WaitingFrame& theirs) {
  const auto here = content_of(ours);
  const auto there = content_of(theirs);
  const Packet& packet = ours.packet;
  if (packet.fragment_offset != theirs.packet.fragment_offset ||
      packet.more_fragments != theirs.packet.more_fragments) {
    const auto show = [](const Packet& p) {
      return std::to_string(p.fragment_offset) + (p.more_fragments ? " (more follow)" : " (last)");
    };
    return Difference{
        Reason::payload, 0,
        "fragment at " + show(packet) + " here, at " + show(theirs.packet) + " there"};
  }
  if (here.size() != there.size()) {
    if (packet.kind == Kind::link && differ_in_padding_only(here, there)) return std::nullopt;
    return Difference{Reason::length, std::min(here.size(), there.size()),
                      std::to_string(here.size()) + " bytes here, " + std::to_string(there.size()) +
                          " bytes there"};
  }
  const auto [skip, resume] = checksum_of(packet);
  std::size_t at = equal_bytes(here.data(), there.data(), skip);
  if (at == skip) {
    at = resume + equal_bytes(here.data() + resume, there.data() + resume, here.size() - resume);
  }
  if (at == here.size()) return std::nullopt;
  const std::size_t header = packet.payload - packet.transport;
  const std::string bytes = describe_difference(here, there, at);
  if (at < header) {
    return Difference{Reason::payload, 0,
                      "at byte " + std::to_string(at) + " of the header: " + bytes};
  }
  return Difference{Reason::payload, at - header,
                    "at byte " + std::to_string(at - header) + " (of " +
                        std::to_string(here.size() - header) + "): " + bytes};
}

}  // namespace

void DatagramCompare::primary(Flow& flow, WaitingFrame& frame) {
  if (flow.queues && !flow.queues->secondary.empty()) {
    WaitingFrame& theirs = *flow.queues->secondary.front();
    if (!match(flow, frame, theirs)) {
      block(flow);
      return wait(flow, frame);
    }
    flow.queues->secondary.remove(theirs);
    state_.discard(Side::secondary, theirs);
    return;
  }
  wait(flow, frame);
}

void DatagramCompare::wait(Flow& flow, WaitingFrame& frame) {
  if (WaitingFrame* kept = state_.keep(Side::primary, frame, frame.frame())) {
    state_.queues(flow).in_order.push_back(*kept);
  }
}

void DatagramCompare::secondary(Flow& flow, WaitingFrame& frame) {
  if (flow.blocked) {
    ++state_.counters.secondary_forgotten_frames;
    state_.tell(Side::secondary, frame.frame(), [] { return "ignored: the flow differs"; });
    return;
  }
  if (flow.queues && !flow.queues->in_order.empty()) {
    WaitingFrame& ours = *flow.queues->in_order.front();
    if (!match(flow, ours, frame)) {
      ++state_.counters.secondary_forgotten_frames;
      state_.tell(Side::secondary, frame.frame(), [] { return "differs from what waits"; });
      return block(flow);
    }
    state_.tell(Side::secondary, frame.frame(), [] { return "matches what waits"; });
    flow.queues->in_order.remove(ours);
    state_.discard(Side::primary, ours);
    return;
  }
  if (WaitingFrame* kept = state_.keep(Side::secondary, frame, frame.frame())) {
    state_.tell(Side::secondary, frame.frame(), [] { return "ahead: waits for its twin"; });
    state_.queues(flow).secondary.push_back(*kept);
  }
}

bool DatagramCompare::match(Flow& flow, WaitingFrame& ours, const WaitingFrame& theirs) {
  const auto difference = compare(ours, theirs);
  if (!difference) {
    state_.counters.compared_bytes += ours.packet.payload_size;
    state_.release(ours.frame());
    state_.tell(ours, [] { return "released"; });
    return true;
  }
  state_.report(difference->reason, flow, difference->at, [&] { return difference->detail; });
  state_.tell(ours, [&] { return "held: differs " + difference->detail; });
  return false;
}

void DatagramCompare::block(Flow& flow) {
  flow.blocked = true;
  if (!flow.queues) return;
  // The primary VM's stay where the commit finds them; nobody asks for the secondary's again.
  while (WaitingFrame* theirs = flow.queues->secondary.front()) {
    flow.queues->secondary.remove(*theirs);
    ++state_.counters.secondary_forgotten_frames;
    state_.discard(Side::secondary, *theirs);
  }
}

}  // namespace tandem::proxy
