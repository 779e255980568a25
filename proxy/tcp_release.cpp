// What leaves of the primary VM's TCP segments, and how: whole or in pieces, with the
// acknowledgement and the timestamp that it may have.
#include <limits>

#include "proxy/tcp_compare.hpp"
#include "proxy/tcp_stream.hpp"

namespace tandem::proxy {

// ---- Segments

void TcpCompare::leave(Flow& flow, WaitingFrame& segment, std::uint32_t to, bool rest) {
  const Packet& packet = segment.packet;
  // Room for more than the piece needs: its headers are those of the segment.
  auto& out = state_.output(segment.size);
  const std::size_t begin = out.size();
  if (rest && segment.left == 0) {
    out.insert(out.end(), segment.bytes, segment.bytes + segment.size);
    state_.tell(segment, [] { return "released"; });
  } else if (!rest && to == packet.payload_size && is_fin(segment)) {
    Packet open = packet;  // all but the FIN
    open.flags &= static_cast<std::uint8_t>(~tcp_flag::fin);
    append_piece(segment.frame(), open, segment.left, to, out);
  } else {
    append_piece(segment.frame(), packet, segment.left, to, out);
  }
  renew_timestamp(flow, packet, std::span(out).subspan(begin));
  note_overtaking(flow, segment);
  state_.count_released();
  if (!rest) {
    ++state_.counters.split_frames;
    state_.tell(segment, [to] { return "split at " + std::to_string(to); });
  }
  segment.left = to;
  if (flow.queues && flow.queues->partial == &segment) flow.queues->partial = nullptr;
  if (rest && is_fin(segment)) flow.finished = true;
  if (!packet.has(tcp_flag::ack)) return;
  const std::uint32_t limit = *ack_limit(flow);
  if (before(limit, packet.ack)) {
    set_ack(std::span(out).subspan(begin), packet, limit);
    acknowledged(flow, limit);
    owe(flow, segment);
  } else {
    acknowledged(flow, packet.ack);
  }
}

void TcpCompare::leave_matched(Flow& flow, WaitingFrame& segment) {
  const std::uint64_t matched = flow.released - segment.payload_start();
  leave(flow, segment, static_cast<std::uint32_t>(matched), false);
}

void TcpCompare::flush() {
  for (Flow* flow : partial_) {
    if (!flow->queues) continue;
    flow->queues->listed = false;
    if (WaitingFrame* segment = std::exchange(flow->queues->partial, nullptr)) {
      leave_matched(*flow, *segment);
    }
  }
  partial_.clear();
}

/// Remembers the timestamp of what leaves before something that was captured earlier.
void TcpCompare::note_overtaking(const Flow& flow, const WaitingFrame& segment) {
  FlowQueues* queues = flow.queues;
  if (!queues) return;
  const auto earlier = [&](const WaitingFrame* first) {
    return first && first != &segment && (!segment.stored || first->serial < segment.serial);
  };
  if (!flow.held && !earlier(queues->in_order.front()) && !earlier(queues->out_of_order.front()) &&
      !earlier(queues->acks.front()) && !earlier(queues->owed)) {
    return;
  }
  note_timestamp(flow, segment.frame(), segment.packet);
}

void TcpCompare::note_timestamp(const Flow& flow, std::span<const std::byte> frame,
                                const Packet& packet) {
  FlowQueues* queues = flow.queues;
  const auto time = timestamps(frame, packet);
  if (!queues || !time || (queues->overtaken && before(time->value, queues->timestamp))) return;
  queues->overtaken = true;
  queues->timestamp = time->value;
}

/// What was overtaken leaves with the timestamp of what overtook it: a client takes a segment whose
/// timestamp goes back for a stray of long ago, and drops it (PAWS, RFC 7323).
void TcpCompare::renew_timestamp(const Flow& flow, const Packet& packet, std::span<std::byte> out) {
  if (!flow.queues || !flow.queues->overtaken) return;
  const auto time = timestamps(out, packet);
  if (!time || !before(time->value, flow.queues->timestamp)) return;
  shift(out, packet, {.timestamp = flow.queues->timestamp - time->value});
}

void TcpCompare::remove(FrameQueue& queue, WaitingFrame& segment) {
  queue.remove(segment);
  state_.discard(Side::primary, segment);
}

// ---- Acknowledgements

/// The highest number that may leave: what both have acknowledged, as far as that is known.
std::optional<std::uint32_t> TcpCompare::ack_limit(const Flow& flow) {
  const bool primary_new = flow.queues && flow.queues->primary_opening;
  const bool secondary_new = flow.queues && flow.queues->secondary_opening;
  const bool acked = flow.acknowledged && !primary_new;
  const bool theirs = flow.secondary_acknowledged && primary_new == secondary_new;
  if (acked && theirs) {
    return before(flow.acked, flow.secondary_acked) ? flow.secondary_acked : flow.acked;
  }
  if (acked) return flow.acked;
  if (theirs) return flow.secondary_acked;
  return std::nullopt;
}

void TcpCompare::acknowledged(Flow& flow, std::uint32_t ack) {
  if (flow.acknowledged && at_or_before(ack, flow.acked)) return;
  flow.acked = ack;
  flow.acknowledged = true;
  if (!flow.queues || !flow.queues->owed) return;
  if (at_or_before(flow.queues->owed->packet.ack, ack)) {
    forgive(flow);
  } else {
    state_.restart(*flow.queues->owed);
  }
}

/// Remembers the acknowledgement that `segment` leaves without.
void TcpCompare::owe(Flow& flow, const WaitingFrame& segment) {
  const std::uint32_t ack = segment.packet.ack;
  FlowQueues& queues = state_.queues(flow);
  if (queues.owed && before(ack, queues.owed->packet.ack)) return;
  scratch_.clear();
  append_acknowledgement(segment.frame(), segment.packet, low(segment.end), ack, scratch_);
  WaitingFrame made;
  made.flow = &flow;
  made.packet = segment.packet;
  made.packet.flags = tcp_flag::ack;
  made.packet.payload_size = 0;
  made.packet.seq = low(segment.end);
  made.start = made.end = segment.end;
  queues.owed = state_.keep_owed(made, scratch_, queues.owed);
}

void TcpCompare::forgive(Flow& flow) {
  state_.discard(Side::primary, *std::exchange(flow.queues->owed, nullptr));
}

/// A pure acknowledgement that may leave does.
void TcpCompare::leave_ack(Flow& flow, WaitingFrame& segment) {
  auto& out = state_.output(segment.size);
  const std::size_t begin = out.size();
  if (flow.based && segment.start > flow.released) {
    // Data before it still waits: the client has not seen so much of the stream yet.
    append_acknowledgement(segment.frame(), segment.packet, low(flow.released), segment.packet.ack,
                           out);
  } else {
    out.insert(out.end(), segment.bytes, segment.bytes + segment.size);
  }
  renew_timestamp(flow, segment.packet, std::span(out).subspan(begin));
  note_overtaking(flow, segment);
  state_.count_released();
  state_.tell(segment, [] { return "released"; });
  acknowledged(flow, segment.packet.ack);
}

/// All captured before `before_serial` that may leave do.
void TcpCompare::leave_acks(Flow& flow, std::uint64_t before_serial) {
  if (flow.queues->acks.empty()) return;
  const auto limit = ack_limit(flow);
  if (!limit) return;
  while (WaitingFrame* first = flow.queues->acks.front()) {
    if (first->serial >= before_serial || before(*limit, first->packet.ack)) return;
    leave_ack(flow, *first);
    remove(flow.queues->acks, *first);
  }
}

void TcpCompare::leave_all_acks(Flow& flow) {
  if (flow.blocked || !flow.queues) return;
  leave_acks(flow, std::numeric_limits<std::uint64_t>::max());
  leave_acks_in_part(flow);
}

/// The newest acknowledgement that waits leaves with the number that may.
void TcpCompare::leave_acks_in_part(Flow& flow) {
  const FlowQueues& queues = *flow.queues;
  const WaitingFrame* newest = queues.acks.back();
  if (!newest || (queues.owed && queues.owed->serial > newest->serial)) newest = queues.owed;
  const auto limit = ack_limit(flow);
  if (!newest || !limit || (flow.acknowledged && at_or_before(*limit, flow.acked))) return;
  // Those in the queue wait because they are beyond the limit.
  const bool beyond = !queues.acks.empty() || before(*limit, queues.owed->packet.ack);
  const std::uint32_t ack = beyond ? *limit : queues.owed->packet.ack;
  // A client ignores what stands before the bytes that it expects next.
  const std::uint32_t seq = flow.based ? low(flow.released) : newest->packet.seq;
  auto& out = state_.output(newest->size);
  const std::size_t begin = out.size();
  append_acknowledgement(newest->frame(), newest->packet, seq, ack, out);
  renew_timestamp(flow, newest->packet, std::span(out).subspan(begin));
  note_overtaking(flow, *newest);
  state_.count_released();
  ++state_.counters.made_acknowledgements;
  acknowledged(flow, ack);
}

// ---- The commit

void TcpCompare::commit(Flow& flow, const WaitingFrame& segment, Frames& out) {
  const Packet& packet = segment.packet;
  locate(flow, packet.seq);
  if (packet.has(tcp_flag::syn) && !packet.has(tcp_flag::rst) && !is_known_syn(flow, packet)) {
    begin_connection(flow, next_connection(flow.released, packet.seq));
    flow.released = flow.origin - 1;
  }
  const std::size_t begin = out.bytes.size();
  if (segment.left == 0) {
    CompareState::append(out, segment.frame());
  } else {
    append_piece(segment.frame(), packet, segment.left, packet.payload_size,
                 CompareState::room(out, segment.size));
    ++out.count;
  }
  renew_timestamp(flow, packet, std::span(out.bytes).subspan(begin));
  // An acknowledgement that was owed need not stand where it was captured.
  note_timestamp(flow, segment.frame(), packet);

  const std::uint64_t start = unwrap(packet.seq, flow.released);
  if (packet.has(tcp_flag::rst)) {
    end_by_reset(flow, packet.seq);
  } else if (packet.sequence_length() != 0) {
    const std::uint64_t end = start + packet.sequence_length();
    flow.released = flow.based ? std::max(flow.released, end) : end;
    flow.based = true;
    if (packet.has(tcp_flag::fin)) flow.finished = true;
  }
  if (packet.has(tcp_flag::ack) && (!flow.acknowledged || before(flow.acked, packet.ack))) {
    flow.acked = packet.ack;
    flow.acknowledged = true;
  }
}

}  // namespace tandem::proxy
