#include "proxy/tcp_stream.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "proxy/compare_state.hpp"

namespace tandem::proxy {

namespace {

/// A SYN's options, with the values of timestamps blanked.
struct SynOptions {
  std::array<std::byte, 40> bytes{};
  std::size_t size = 0;
  friend bool operator==(const SynOptions&, const SynOptions&) = default;
};

SynOptions syn_options(const WaitingFrame& segment) {
  constexpr std::size_t fixed_header = 20, timestamps = 10;
  constexpr std::byte end{0}, nop{1}, timestamp_kind{8};
  SynOptions options;
  const Packet& packet = segment.packet;
  options.size = std::min(packet.payload - packet.transport - fixed_header, options.bytes.size());
  std::memcpy(options.bytes.data(), segment.bytes + packet.transport + fixed_header, options.size);
  for (std::size_t at = 0; at + 1 < options.size && options.bytes[at] != end;) {
    const auto length = std::to_integer<std::size_t>(options.bytes[at + 1]);
    if (options.bytes[at] == nop) {
      ++at;
      continue;
    }
    if (length < 2 || at + length > options.size) break;
    if (options.bytes[at] == timestamp_kind && length == timestamps) {
      std::fill_n(options.bytes.begin() + static_cast<std::ptrdiff_t>(at) + 2, timestamps - 2,
                  std::byte{0});
    }
    at += length;
  }
  return options;
}

std::string here_and_there(std::uint32_t here, std::uint32_t there) {
  return std::to_string(here) + " here, " + std::to_string(there) + " there";
}

/// Empty: the payloads are the same.
std::string payload_difference(const WaitingFrame& ours, const WaitingFrame& theirs) {
  const auto here = ours.payload();
  const auto there = theirs.payload();
  if (here.size() != there.size()) {
    return "payload size " + here_and_there(ours.packet.payload_size, theirs.packet.payload_size);
  }
  const std::size_t at = equal_bytes(here.data(), there.data(), here.size());
  if (at == here.size()) return {};
  return "payload at byte " + std::to_string(at) + ": " + describe_difference(here, there, at);
}

}  // namespace

void begin_connection(Flow& flow, std::uint64_t start) noexcept {
  flow.origin = start + 1;
  flow.located = flow.based = flow.opened = true;
  flow.finished = flow.reset = flow.acknowledged = false;
  // Its timestamps need have nothing to do with those before.
  if (flow.queues) flow.queues->overtaken = false;
}

std::string at_position(const Flow& flow, std::uint64_t position) {
  if (flow.opened) return "at byte " + std::to_string(shown_position(flow, position));
  return "at sequence number " + std::to_string(low(position));
}

void end_by_reset(Flow& flow, std::uint32_t seq) noexcept {
  flow.origin = unwrap(seq, flow.released);
  flow.reset = true;
  flow.opened = false;
}

std::string syn_difference(const WaitingFrame& ours, const WaitingFrame& theirs) {
  constexpr auto ignored = static_cast<std::uint8_t>(~tcp_flag::psh);
  const Packet& a = ours.packet;
  const Packet& b = theirs.packet;
  if ((a.flags & ignored) != (b.flags & ignored)) {
    return "SYN: flags " + here_and_there(a.flags, b.flags);
  }
  if (a.has(tcp_flag::ack) && a.ack != b.ack) {
    return "SYN: acknowledgement " + here_and_there(a.ack, b.ack);
  }
  if (syn_options(ours) != syn_options(theirs)) return "SYN: other options";
  const auto difference = payload_difference(ours, theirs);
  return difference.empty() ? difference : "SYN: " + difference;
}

std::string reset_difference(const WaitingFrame& ours, const WaitingFrame& theirs) {
  const std::uint32_t here = ours.packet.seq;
  const std::uint32_t there = theirs.packet.seq;
  if (here != there) return "RST: sequence number " + here_and_there(here, there);
  const auto difference = payload_difference(ours, theirs);
  return difference.empty() ? difference : "RST: " + difference;
}

}  // namespace tandem::proxy
