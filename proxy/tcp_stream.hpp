// Where a TCP segment stands in its flow: sequence numbers as stream positions, and what begins and
// ends a connection.
//
// A position is a sequence number with its wraps counted. From bit `connection_shift` on it counts
// the flow's connections, so that positions of a later connection are always higher than those of
// the ones before, whatever their sequence numbers.
#pragma once

#include <cstdint>
#include <string>

#include "proxy/comparer.hpp"
#include "proxy/flow_table.hpp"
#include "proxy/waiting_frame.hpp"

namespace tandem::proxy {

inline constexpr int connection_shift = 48;

constexpr std::uint32_t low(std::uint64_t position) noexcept {
  return static_cast<std::uint32_t>(position);
}

/// The position of `seq` that is nearest to `reference`.
constexpr std::uint64_t unwrap(std::uint32_t seq, std::uint64_t reference) noexcept {
  const auto distance = static_cast<std::int32_t>(seq - low(reference));
  return reference + static_cast<std::uint64_t>(std::int64_t{distance});
}

/// Where a connection begins that follows the one of `position`.
constexpr std::uint64_t next_connection(std::uint64_t position, std::uint32_t seq) noexcept {
  return (((position >> connection_shift) + 1) << connection_shift) | seq;
}

/// Gives a flow without positions its first one.
inline void locate(Flow& flow, std::uint32_t seq) noexcept {
  if (flow.located) return;
  flow.released = next_connection(flow.released, seq);
  flow.located = true;
}

/// The position that a VM's sequence numbers are near to.
inline std::uint64_t reference(const Flow& flow, Comparer::Side side) noexcept {
  if (!flow.queues) return flow.released;
  const bool opening = side == Comparer::Side::primary ? flow.queues->primary_opening
                                                       : flow.queues->secondary_opening;
  return opening ? flow.queues->opening : flow.released;
}

/// The SYN of the connection that is under way, sent again.
inline bool is_known_syn(const Flow& flow, const Packet& packet) noexcept {
  return flow.opened && low(flow.origin - 1) == packet.seq;
}

/// The RST that has left, sent again.
inline bool is_known_reset(const Flow& flow, const Packet& packet) noexcept {
  return flow.reset && low(flow.origin) == packet.seq && packet.payload_size == 0;
}

/// The SYN of a connection that has not been released yet.
inline bool opens(const Flow& flow, const WaitingFrame& segment) noexcept {
  return segment.packet.has(tcp_flag::syn) && !segment.packet.has(tcp_flag::rst) && flow.queues &&
         flow.queues->opening != 0 && segment.start == flow.queues->opening;
}

inline bool is_fin(const WaitingFrame& segment) noexcept {
  return segment.packet.has(tcp_flag::fin);
}

/// It has payload where or behind where the stream has ended, or a FIN where it has not.
inline bool contradicts_end(const Flow& flow, const WaitingFrame& segment) noexcept {
  if (!flow.finished) return is_fin(segment) && segment.end <= flow.released;
  const std::uint64_t payload_end = segment.payload_start() + segment.packet.payload_size;
  return payload_end >= flow.released || (is_fin(segment) && segment.end != flow.released);
}

/// A connection begins with a SYN at `start`; nothing of the one before counts any more.
void begin_connection(Flow& flow, std::uint64_t start) noexcept;

/// A RST has left. What comes of the connection after it, but for what is sent again, has never
/// been sent before.
void end_by_reset(Flow& flow, std::uint32_t seq) noexcept;

/// "at byte 1234", counted from the connection's first byte if its SYN was seen.
std::string at_position(const Flow& flow, std::uint64_t position);

/// How two SYNs at the same sequence number differ, but for timestamps; empty: not at all.
std::string syn_difference(const WaitingFrame& ours, const WaitingFrame& theirs);
/// How two RSTs differ; empty: not at all.
std::string reset_difference(const WaitingFrame& ours, const WaitingFrame& theirs);

}  // namespace tandem::proxy
