#include "proxy/tcp_compare.hpp"

#include <algorithm>

#include "proxy/tcp_stream.hpp"

namespace tandem::proxy {

namespace {

/// Retransmissions and fillers of gaps that wait in a flow; more of them wait for the commit.
constexpr std::uint16_t out_of_order_max = 128;
/// Segments of the secondary VM that are passed over to find a place for another one.
constexpr int search_max = 4096;

}  // namespace

template <typename Detail>
void TcpCompare::differs(Flow& flow, Reason reason, std::uint64_t position, Detail detail) {
  state_.report(reason, flow, shown_position(flow, position), detail);
  block(flow);
}

void TcpCompare::block(Flow& flow) {
  flow.blocked = true;
  if (!flow.queues) return;
  FlowQueues& queues = *flow.queues;
  const auto forget = [&](WaitingFrame& frame) {
    ++state_.counters.secondary_forgotten_frames;
    state_.discard(Side::secondary, frame);
  };
  while (WaitingFrame* frame = queues.secondary.front()) {
    queues.secondary.remove(*frame);
    forget(*frame);
  }
  while (WaitingFrame* frame = queues.resets.front()) {
    queues.resets.remove(*frame);
    forget(*frame);
  }
  if (queues.secondary_syn) forget(*std::exchange(queues.secondary_syn, nullptr));
  // The primary VM's wait for the commit.
}

std::string TcpCompare::describe(Comparer::Side side, const WaitingFrame& segment) {
  const Packet& packet = segment.packet;
  std::string text = side == Side::primary ? "the primary VM's " : "the secondary VM's ";
  if (packet.has(tcp_flag::rst)) {
    text += "RST ";
  } else if (packet.has(tcp_flag::syn)) {
    text += "SYN ";
  } else if (segment.start == segment.end) {
    return text + "acknowledgement of " + std::to_string(packet.ack);
  } else if (packet.payload_size != 0) {
    text += "payload ";
  } else {
    text += "FIN ";
  }
  return text + at_position(*segment.flow, segment.start + segment.left);
}

// ---- The primary VM's segments

void TcpCompare::primary(Flow& flow, WaitingFrame& segment) {
  const Packet& packet = segment.packet;
  if (flow.queues && flow.queues->partial) leave_matched(flow, *flow.queues->partial);
  if (flow.blocked) return state_.hold(flow, segment);
  if (packet.has(tcp_flag::rst)) return primary_reset(flow, segment);
  if (packet.has(tcp_flag::syn)) return primary_syn(flow, segment);
  // Without ACK nobody would take it (RFC 9293, 3.10.7.4); it may wait for the commit.
  if (!packet.has(tcp_flag::ack)) return state_.hold(flow, segment);
  if (packet.sequence_length() == 0) return primary_ack(flow, segment);
  primary_data(flow, segment);
}

void TcpCompare::primary_data(Flow& flow, WaitingFrame& segment) {
  const Packet& packet = segment.packet;
  locate(flow, packet.seq);
  segment.start = unwrap(packet.seq, reference(flow, Side::primary));
  segment.end = segment.start + packet.sequence_length();
  if (!flow.based) {
    // All before the first segment that is seen of a connection was released by earlier commits.
    flow.released = segment.start;
    flow.based = true;
    drop_released(flow);
  }
  take_turn(flow, segment);
}

void TcpCompare::take_turn(Flow& flow, WaitingFrame& segment) {
  const bool first = !flow.queues || !flow.queues->primary_waits();
  // What has left before need not wait for what has not.
  const bool again = segment.end <= flow.released && !segment.packet.has(tcp_flag::rst);
  if ((first || again) && step(flow, segment, nullptr) == Step::left) return;
  if (flow.blocked) return state_.hold(flow, segment);
  const bool ready = !first && segment.start <= flow.released;
  enqueue(flow, segment);
  if (ready) drain(flow, nullptr);
}

void TcpCompare::enqueue(Flow& flow, WaitingFrame& segment) {
  WaitingFrame* kept = state_.keep(Side::primary, segment, segment.frame());
  if (!kept) {
    // Without its SYN a connection's numbers would be taken for those of the one before.
    if (opens(flow, segment)) block(flow);
    return;
  }
  FlowQueues& queues = state_.queues(flow);
  if (queues.in_order.empty() || kept->start >= queues.in_order.back()->end) {
    queues.in_order.push_back(*kept);
  } else if (queues.out_of_order_count < out_of_order_max) {
    queues.out_of_order.push_back(*kept);
    ++queues.out_of_order_count;
  } else {
    flow.held = true;
  }
}

void TcpCompare::primary_syn(Flow& flow, WaitingFrame& segment) {
  const std::uint32_t seq = segment.packet.seq;
  const auto place = [&](std::uint64_t start) {
    segment.start = start;
    segment.end = start + segment.packet.sequence_length();
  };
  const bool opening = flow.queues && flow.queues->primary_opening;
  if (!opening && is_known_syn(flow, segment.packet)) {
    place(flow.origin - 1);  // sent again
    return take_turn(flow, segment);
  }
  FlowQueues& queues = state_.queues(flow);
  if (queues.opening == 0) queues.opening = next_connection(flow.released, seq);
  if (low(queues.opening) != seq) {
    const std::uint32_t other = low(queues.opening);
    differs(flow, Reason::event, queues.opening, [&] {
      return "SYN: sequence number " + std::to_string(seq) + " here, " + std::to_string(other) +
             (opening ? " here before" : " there");
    });
    return state_.hold(flow, segment);
  }
  queues.primary_opening = true;
  place(queues.opening);
  take_turn(flow, segment);
}

void TcpCompare::primary_reset(Flow& flow, WaitingFrame& segment) {
  locate(flow, segment.packet.seq);
  segment.start = unwrap(segment.packet.seq, flow.released);
  // Behind all that was sent before, wherever it stands.
  if (flow.queues && !flow.queues->in_order.empty()) {
    segment.start = std::max(segment.start, flow.queues->in_order.back()->end);
  }
  segment.end = segment.start;
  take_turn(flow, segment);
}

void TcpCompare::primary_ack(Flow& flow, WaitingFrame& segment) {
  const std::uint32_t ack = segment.packet.ack;
  const auto limit = ack_limit(flow);
  segment.start = segment.end = unwrap(segment.packet.seq, reference(flow, Side::primary));
  if (limit && at_or_before(ack, *limit)) {
    leave_ack(flow, segment);
    return;
  }
  if (limit && flow.queues && !flow.queues->resets.empty()) {
    differs(flow, Reason::event, flow.released, [&] {
      return "the secondary VM has reset the connection, the primary VM acknowledges " +
             std::to_string(ack);
    });
    return state_.hold(flow, segment);
  }
  if (WaitingFrame* kept = state_.keep(Side::primary, segment, segment.frame())) {
    state_.queues(flow).acks.push_back(*kept);
    leave_acks_in_part(flow);
  }
}

// ---- The secondary VM's segments

void TcpCompare::secondary(Flow& flow, WaitingFrame& segment) {
  const Packet& packet = segment.packet;
  if (flow.blocked) return ignore(segment, "ignored: the flow differs");
  if (packet.has(tcp_flag::rst)) return secondary_reset(flow, segment);
  if (packet.has(tcp_flag::syn)) return secondary_syn(flow, segment);
  if (!packet.has(tcp_flag::ack)) return ignore(segment, "ignored: neither SYN, ACK nor RST");

  const bool had_limit = ack_limit(flow).has_value();
  const bool raised = !flow.secondary_acknowledged || before(flow.secondary_acked, packet.ack);
  if (raised) {
    flow.secondary_acked = packet.ack;
    flow.secondary_acknowledged = true;
  }
  if (packet.sequence_length() != 0) {
    secondary_data(flow, segment);
  } else {
    state_.tell(Side::secondary, segment.frame(), [] { return "acknowledgement noted"; });
  }
  if (!raised || flow.blocked || !flow.queues) return;
  // A segment may have waited for no more than to know what it may acknowledge.
  if (!had_limit) drain(flow, nullptr);
  if (flow.blocked || !flow.queues) return;
  const WaitingFrame* first = flow.queues->in_order.front();
  if (first && first->packet.has(tcp_flag::rst) && first->packet.has(tcp_flag::ack) &&
      flow.queues->resets.empty() && before(first->packet.ack, packet.ack)) {
    return differs(flow, Reason::event, first->start, [&] {
      return "the primary VM has reset the connection, the secondary VM acknowledges " +
             std::to_string(packet.ack);
    });
  }
  leave_all_acks(flow);
}

void TcpCompare::secondary_data(Flow& flow, WaitingFrame& segment) {
  locate(flow, segment.packet.seq);
  segment.start = unwrap(segment.packet.seq, reference(flow, Side::secondary));
  segment.end = segment.start + segment.packet.sequence_length();
  if (flow.based && segment.end <= flow.released) {
    state_.tell(Side::secondary, segment.frame(), [] { return "released already"; });
    return;
  }
  if (flow.queues && flow.queues->primary_waits()) {
    const WaitingFrame* first = flow.queues->in_order.front();
    if (first && first->packet.has(tcp_flag::rst) && flow.queues->resets.empty() &&
        segment.end > std::max(first->start, flow.released)) {
      differs(flow, Reason::event, first->start, [&] {
        return "the primary VM has reset the connection " + at_position(flow, first->start) +
               ", the secondary VM goes on";
      });
      return ignore(segment, "differs: the primary VM has reset the connection");
    }
    drain(flow, &segment);
    if (flow.blocked) return ignore(segment, "differs from what waits");
  }
  if (flow.based && segment.end <= flow.released) {
    state_.tell(Side::secondary, segment.frame(), [] { return "matches what waits"; });
    return;
  }
  state_.tell(Side::secondary, segment.frame(), [] { return "ahead: waits for its twin"; });
  store(flow, segment);
}

/// Keeps what of the segment is neither released nor stored.
void TcpCompare::store(Flow& flow, const WaitingFrame& segment) {
  FrameQueue& stored = state_.queues(flow).secondary;
  std::uint64_t from = flow.based ? std::max(segment.start, flow.released) : segment.start;
  const std::uint64_t payload_end = segment.start + segment.packet.payload_size;
  int passed = 0;
  // The last one that does not begin behind `from`, looked for from the nearer end.
  WaitingFrame* place = stored.back();
  const std::uint64_t front = place ? stored.front()->start : 0;
  if (place && from < place->start && (from < front || from - front < place->start - from)) {
    place = nullptr;
    for (WaitingFrame* next = stored.front(); next && next->start <= from; next = next->next) {
      if (++passed > search_max) break;
      place = next;
    }
  } else {
    while (place && place->start > from && ++passed <= search_max) place = place->previous;
  }
  if (place) from = std::max(from, place->end);

  while (from < segment.end && passed <= search_max) {
    WaitingFrame* next = place ? place->next : stored.front();
    const std::uint64_t to = next ? std::min(segment.end, next->start) : segment.end;
    if (from < to) {
      const std::uint64_t bytes_end = std::min(to, payload_end);
      const auto bytes =
          segment.payload().subspan(from - segment.start, bytes_end > from ? bytes_end - from : 0);
      WaitingFrame piece = segment;
      piece.start = from;
      piece.end = to;
      WaitingFrame* kept = state_.keep(Side::secondary, piece, bytes);
      if (!kept) return;
      stored.insert_behind(place, *kept);
    }
    if (!next) return;
    from = std::max(from, next->end);
    place = next;
    ++passed;
  }
  if (passed > search_max) ++state_.counters.secondary_dropped_frames;
}

void TcpCompare::secondary_syn(Flow& flow, WaitingFrame& segment) {
  const std::uint32_t seq = segment.packet.seq;
  if (flow.queues && flow.queues->secondary_opening) {
    if (low(flow.queues->opening) == seq) return ignore(segment, "SYN sent again");
  } else if (is_known_syn(flow, segment.packet)) {
    return ignore(segment, "released already");
  }
  FlowQueues& queues = state_.queues(flow);
  if (queues.opening == 0) queues.opening = next_connection(flow.released, seq);
  if (low(queues.opening) != seq) {
    const std::uint32_t other = low(queues.opening);
    const bool twice = queues.secondary_opening;
    differs(flow, Reason::event, queues.opening, [&] {
      return "SYN: sequence number " + std::to_string(other) +
             (twice ? " there before, " : " here, ") + std::to_string(seq) + " there";
    });
    return ignore(segment, "differs: SYN with another sequence number");
  }
  segment.start = queues.opening;
  segment.end = segment.start + segment.packet.sequence_length();
  queues.secondary_opening = true;
  flow.secondary_acknowledged = segment.packet.has(tcp_flag::ack);
  flow.secondary_acked = segment.packet.ack;
  queues.secondary_syn = state_.keep(Side::secondary, segment, segment.frame());
  if (!queues.secondary_syn) return block(flow);
  state_.tell(Side::secondary, segment.frame(), [] { return "SYN noted"; });
  drain(flow, nullptr);
}

void TcpCompare::secondary_reset(Flow& flow, WaitingFrame& segment) {
  const Packet& packet = segment.packet;
  if (is_known_reset(flow, packet)) return ignore(segment, "released already");
  locate(flow, packet.seq);
  segment.start = unwrap(packet.seq, reference(flow, Side::secondary));
  segment.end = segment.start;
  if (packet.has(tcp_flag::ack) &&
      (!flow.secondary_acknowledged || before(flow.secondary_acked, packet.ack))) {
    flow.secondary_acked = packet.ack;
    flow.secondary_acknowledged = true;
  }
  FlowQueues& queues = state_.queues(flow);
  if (!queues.resets.empty() && queues.resets.back()->packet.seq == packet.seq) {
    return ignore(segment, "RST sent again");
  }
  WaitingFrame* kept = state_.keep(Side::secondary, segment, segment.frame());
  if (!kept) return;
  state_.tell(Side::secondary, segment.frame(), [] { return "RST noted"; });
  queues.resets.push_back(*kept);
  drain(flow, nullptr);
  leave_all_acks(flow);
}

void TcpCompare::ignore(const WaitingFrame& segment, std::string_view why) {
  if (segment.packet.sequence_length() != 0 && segment.flow && segment.flow->blocked) {
    ++state_.counters.secondary_forgotten_frames;
  }
  state_.tell(Side::secondary, segment.frame(), [why] { return std::string(why); });
}

// ---- Whose turn it is

void TcpCompare::drain(Flow& flow, const WaitingFrame* incoming) {
  while (!flow.blocked && flow.queues) {
    WaitingFrame* next = next_ready(flow);
    if (!next) return;
    // What is behind it would leave without it.
    if (flow.queues->partial && flow.queues->partial != next) {
      leave_matched(flow, *flow.queues->partial);
    }
    leave_acks(flow, next->serial);
    if (step(flow, *next, incoming) != Step::left) return;
    FlowQueues& queues = *flow.queues;
    // It was the head of the one, or else is in the other.
    const bool head = queues.in_order.front() == next;
    if (!head) --queues.out_of_order_count;
    remove(head ? queues.in_order : queues.out_of_order, *next);
  }
}

/// In the order of capture, as far as the stream's order allows it: a client would take a segment
/// with an older timestamp, sent after one with a newer, for a stray.
WaitingFrame* TcpCompare::next_ready(const Flow& flow) {
  const FlowQueues& queues = *flow.queues;
  WaitingFrame* head = queues.in_order.front();
  WaitingFrame* other = queues.out_of_order.front();
  // An end or a beginning needs no place in the stream: all before it has gone.
  const bool event = head && (head->packet.has(tcp_flag::rst) || opens(flow, *head));
  if (head && !event && head->start > flow.released) head = nullptr;
  while (other && other->start > flow.released) other = other->next;
  if (!head || !other) return head ? head : other;
  return head->serial < other->serial ? head : other;
}

TcpCompare::Step TcpCompare::step(Flow& flow, WaitingFrame& segment, const WaitingFrame* incoming) {
  if (segment.packet.has(tcp_flag::rst)) return step_reset(flow, segment);
  if (opens(flow, segment)) return step_syn(flow, segment);
  return step_stream(flow, segment, incoming);
}

TcpCompare::Step TcpCompare::step_syn(Flow& flow, WaitingFrame& segment) {
  FlowQueues& queues = *flow.queues;
  WaitingFrame* theirs = queues.secondary_syn;
  if (!theirs) return Step::waits;
  if (const auto difference = syn_difference(segment, *theirs); !difference.empty()) {
    state_.tell(segment, [&] { return "held: differs: " + difference; });
    differs(flow, Reason::event, segment.start, [&] { return difference; });
    return Step::waits;
  }
  state_.counters.compared_bytes += segment.packet.payload_size;
  begin_connection(flow, segment.start);
  flow.released = segment.end;
  queues.secondary_syn = nullptr;
  state_.discard(Side::secondary, *theirs);
  queues.opening = 0;
  queues.primary_opening = queues.secondary_opening = false;
  drop_released(flow);
  leave(flow, segment, segment.packet.payload_size, true);
  return Step::left;
}

TcpCompare::Step TcpCompare::step_reset(Flow& flow, WaitingFrame& segment) {
  const Packet& packet = segment.packet;
  if (packet.has(tcp_flag::ack) && !ack_limit(flow)) return Step::waits;
  if (is_known_reset(flow, packet)) {
    leave(flow, segment, packet.payload_size, true);  // sent again
    return Step::left;
  }
  if (!flow.queues) return Step::waits;
  WaitingFrame* theirs = flow.queues->resets.front();
  if (!theirs) {
    const WaitingFrame* last = flow.queues->secondary.back();
    if (last && flow.based && last->end > std::max(segment.start, flow.released)) {
      state_.tell(segment, [] { return "held: differs: the secondary VM goes on"; });
      differs(flow, Reason::event, segment.start, [&] {
        return "the primary VM has reset the connection " + at_position(flow, segment.start) +
               ", the secondary VM goes on";
      });
    }
    return Step::waits;
  }
  if (const auto difference = reset_difference(segment, *theirs); !difference.empty()) {
    state_.tell(segment, [&] { return "held: differs: " + difference; });
    differs(flow, Reason::event, segment.start, [&] { return difference; });
    return Step::waits;
  }
  flow.queues->resets.remove(*theirs);
  state_.discard(Side::secondary, *theirs);
  end_by_reset(flow, packet.seq);
  drop_stored(flow, std::max(segment.start, flow.released));
  leave(flow, segment, packet.payload_size, true);
  return Step::left;
}

TcpCompare::Step TcpCompare::step_stream(Flow& flow, WaitingFrame& segment,
                                         const WaitingFrame* incoming) {
  if (segment.start > flow.released) return Step::waits;  // a gap is before it
  if (segment.packet.has(tcp_flag::ack) && !ack_limit(flow)) return Step::waits;
  if (contradicts_end(flow, segment)) {
    state_.tell(segment, [] { return "held: differs: the stream has ended elsewhere"; });
    differs(flow, Reason::length, segment.start, [&] {
      return at_position(flow, segment.start) + ": the stream's end (FIN) stands elsewhere";
    });
    return Step::waits;
  }
  const Match matched = segment.end > flow.released ? match(flow, segment, incoming) : Match::all;
  if (matched == Match::all) {
    leave(flow, segment, segment.packet.payload_size, true);
    return Step::left;
  }
  if (flow.released > segment.payload_start() + segment.left) {
    if (!segment.stored) {
      leave_matched(flow, segment);
    } else {
      flow.queues->partial = &segment;
      if (!std::exchange(flow.queues->listed, true)) partial_.push_back(&flow);
    }
  }
  if (matched == Match::differs) block(flow);
  return Step::waits;
}

/// Compares the segment from `released` on, and moves `released` over what is equal.
TcpCompare::Match TcpCompare::match(Flow& flow, WaitingFrame& segment,
                                    const WaitingFrame* incoming) {
  const auto ours = segment.payload();
  const std::uint64_t start = segment.payload_start();
  const auto difference = [&](Reason reason, auto detail) {
    const std::uint64_t position = flow.released;
    const auto text = [&] { return at_position(flow, position) + ": " + detail(); };
    state_.tell(segment, [&] { return "held: differs " + text(); });
    state_.report(reason, flow, shown_position(flow, position), text);
    return Match::differs;
  };

  while (flow.released < start + ours.size()) {
    const Theirs theirs = theirs_at(flow, incoming);
    const std::size_t at = flow.released - start;
    if (theirs.bytes.empty()) {
      if (theirs.fin) {
        return difference(Reason::length, [&] {
          return std::to_string(ours.size() - at) + " more bytes here, the end (FIN) there";
        });
      }
      if (flow.queues && !flow.queues->resets.empty() &&
          flow.queues->resets.front()->start <= flow.released) {
        return difference(Reason::event, [&] {
          return std::to_string(ours.size() - at) + " more bytes here, a reset there";
        });
      }
      return Match::part;
    }
    const std::size_t size = std::min(theirs.bytes.size(), ours.size() - at);
    const std::size_t equal = equal_bytes(ours.data() + at, theirs.bytes.data(), size);
    const std::size_t own = own_agreement(flow, segment, equal);
    flow.released += own;
    state_.counters.compared_bytes += own;
    if (own < equal) {
      return difference(Reason::payload,
                        [] { return std::string("sent twice, with different bytes"); });
    }
    if (equal < size) {
      return difference(Reason::payload,
                        [&] { return describe_difference(ours.subspan(at), theirs.bytes, equal); });
    }
    drop_released(flow);
  }
  if (!is_fin(segment)) return Match::all;

  const Theirs theirs = theirs_at(flow, incoming);
  if (!theirs.bytes.empty()) {
    return difference(Reason::length, [&] {
      return "the end (FIN) here, " + std::to_string(theirs.bytes.size()) + " more bytes there";
    });
  }
  if (!theirs.fin) {
    if (flow.queues && !flow.queues->resets.empty() &&
        flow.queues->resets.front()->start <= flow.released) {
      return difference(Reason::event, [] { return std::string("FIN here, a reset there"); });
    }
    return Match::part;
  }
  ++flow.released;
  drop_released(flow);
  return Match::all;
}

TcpCompare::Theirs TcpCompare::theirs_at(const Flow& flow, const WaitingFrame* incoming) {
  const std::uint64_t position = flow.released;
  const auto from = [position](std::span<const std::byte> bytes, std::uint64_t start) {
    const std::uint64_t skip = position - start;
    if (skip < bytes.size()) return Theirs{bytes.subspan(skip), false};
    return Theirs{{}, true};  // the last position of a segment that is no byte of it is FIN's
  };
  if (flow.queues) {
    const WaitingFrame* stored = flow.queues->secondary.front();
    if (stored && stored->start <= position) return from(stored->frame(), stored->start);
  }
  if (incoming && incoming->start <= position && position < incoming->end) {
    return from(incoming->payload(), incoming->start);
  }
  return {};
}

/// How many of the next `size` bytes are the same in all segments that wait. What is released of
/// one is released of all.
std::size_t TcpCompare::own_agreement(const Flow& flow, const WaitingFrame& segment,
                                      std::size_t size) {
  if (!flow.queues || flow.queues->out_of_order.empty()) return size;
  const auto ours = segment.payload().subspan(flow.released - segment.payload_start());
  const auto agree = [&](const WaitingFrame& other) {
    if (&other == &segment || other.packet.has(tcp_flag::rst)) return;
    const std::uint64_t other_start = other.payload_start();
    const std::uint64_t from = std::max(other_start, flow.released);
    const std::uint64_t to =
        std::min(other_start + other.packet.payload_size, flow.released + size);
    if (from >= to) return;
    const std::size_t skip = from - flow.released;
    const std::size_t equal =
        equal_bytes(ours.data() + skip, other.payload().data() + (from - other_start), to - from);
    if (equal < to - from) size = skip + equal;
  };
  for (const WaitingFrame* other = flow.queues->out_of_order.front(); other; other = other->next) {
    agree(*other);
  }
  for (const WaitingFrame* other = flow.queues->in_order.front();
       other && other->start < flow.released + size; other = other->next) {
    agree(*other);
  }
  return size;
}

/// Nobody needs any more what the secondary VM has sent up to `end`.
void TcpCompare::drop_stored(Flow& flow, std::uint64_t end) {
  if (!flow.queues) return;
  FrameQueue& stored = flow.queues->secondary;
  while (!stored.empty() && stored.front()->end <= end) {
    WaitingFrame& first = *stored.front();
    stored.remove(first);
    state_.discard(Side::secondary, first);
  }
}

}  // namespace tandem::proxy
