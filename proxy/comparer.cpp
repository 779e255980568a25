#include "proxy/comparer.hpp"

#include <algorithm>

#include "base/big_endian.hpp"
#include "proxy/chardev_framing.hpp"
#include "proxy/compare_state.hpp"
#include "proxy/datagram_compare.hpp"
#include "proxy/tcp_compare.hpp"

namespace tandem::proxy {

std::string_view to_string(Reason reason) noexcept {
  switch (reason) {
    case Reason::payload:
      return "payload";
    case Reason::length:
      return "length";
    case Reason::event:
      return "event";
    case Reason::timeout:
      return "timeout";
    case Reason::overflow:
      return "overflow";
    case Reason::unparsable:
      return "unparsable";
  }
  return "unknown";
}

class Comparer::Impl {
 public:
  explicit Impl(CompareLimits limits) : state(limits), tcp_(state), datagrams_(state) {}

  CompareState state;

  void take(Side side, std::span<const std::byte> frames, Time now);
  Frames close_epoch();
  void forget_flows();
  void tick(Time now);

 private:
  void take_frame(Side side, std::span<const std::byte> frame);
  void take_malformed(Side side, std::span<const std::byte> frame, std::string_view why);
  void take_without_room(Side side);
  void commit(WaitingFrame& frame, Frames& out);
  void forget_queues(Flow& flow);

  TcpCompare tcp_;
  DatagramCompare datagrams_;
  WaitingFrame incoming_;  ///< the frame that is looked at
};

void Comparer::Impl::take(Side side, std::span<const std::byte> frames, Time now) {
  state.set_now(now);
  while (!frames.empty()) {
    std::size_t size = frames.size();
    bool whole = false;
    if (size >= frame_prefix_size) {
      const std::size_t length = load_be<std::uint32_t>(frames.data());
      whole = length <= frame_length_max && length <= size - frame_prefix_size;
      if (whole) size = frame_prefix_size + length;
    }
    const auto frame = frames.first(size);
    frames = frames.subspan(size);
    auto& counters = state.counters;
    ++(side == Side::primary ? counters.primary_frames : counters.secondary_frames);
    if (whole) {
      take_frame(side, frame);
    } else if (side == Side::primary) {
      // Not even a frame: nothing that could leave later.
      ++counters.dropped_frames;
      state.report(Reason::unparsable, FlowKey{}, 0,
                   [] { return std::string("a frame's length is a lie"); });
    } else {
      ++counters.secondary_unparsable_frames;
    }
  }
  tcp_.flush();
}

void Comparer::Impl::take_frame(Side side, std::span<const std::byte> frame) {
  WaitingFrame& incoming = incoming_;
  const Malformed malformed = parse(frame, Direction::from_guest, incoming.packet);
  incoming.bytes = frame.data();
  incoming.size = static_cast<std::uint32_t>(frame.size());
  incoming.start = incoming.end = 0;
  incoming.left = 0;
  incoming.traced = false;
  incoming.flow = nullptr;
  if (malformed != Malformed::none) return take_malformed(side, frame, to_string(malformed));

  const Packet& packet = incoming.packet;
  if (side == Side::primary && packet.kind == Kind::tcp && packet.has(tcp_flag::syn)) {
    state.add_reference(frame);
  }
  Flow* flow = state.flow_of(side, packet.key);
  if (!flow) return take_without_room(side);
  incoming.flow = flow;
  if (packet.kind == Kind::tcp) {
    side == Side::primary ? tcp_.primary(*flow, incoming) : tcp_.secondary(*flow, incoming);
  } else {
    side == Side::primary ? datagrams_.primary(*flow, incoming)
                          : datagrams_.secondary(*flow, incoming);
  }
  state.flows.settle(*flow);
}

void Comparer::Impl::take_malformed(Side side, std::span<const std::byte> frame,
                                    std::string_view why) {
  if (side == Side::secondary) {
    ++state.counters.secondary_unparsable_frames;
    state.tell(side, frame, [&] { return "ignored: cannot be parsed: " + std::string(why); });
    return;
  }
  incoming_.packet = Packet{};
  state.keep(side, incoming_, frame);
  state.report(Reason::unparsable, FlowKey{}, 0, [&] {
    return "a frame of " + std::to_string(frame.size()) +
           " bytes cannot be parsed: " + std::string(why);
  });
}

void Comparer::Impl::take_without_room(Side side) {
  state.refuse_flow();
  if (side == Side::secondary) {
    ++state.counters.secondary_dropped_frames;
    state.tell(side, incoming_.frame(), [] { return "dropped: no room for its flow"; });
  } else {
    state.keep(side, incoming_, incoming_.frame());
  }
  state.report(Reason::overflow, incoming_.packet.key, 0, [&] {
    return "no room for another flow: " + std::to_string(state.flows.size()) +
           " are remembered, none of them closed";
  });
}

Frames Comparer::Impl::close_epoch() {
  Frames out;
  out.bytes.reserve(state.waiting_bytes());
  for (WaitingFrame* frame = state.oldest(); frame; frame = frame->newer) commit(*frame, out);
  for (WaitingFrame* frame : {state.oldest(), state.oldest_of_secondary()}) {
    for (; frame; frame = frame->newer) {
      if (frame->flow) forget_queues(*frame->flow);
    }
  }
  state.flows.erase_foreign();
  state.make_room();
  state.begin_epoch();
  return out;
}

void Comparer::Impl::commit(WaitingFrame& frame, Frames& out) {
  ++state.counters.committed_frames;
  if (frame.owed) ++state.counters.made_acknowledgements;
  state.tell(frame, [] { return "held for the commit"; });
  if (frame.flow && frame.flow->key.kind == Kind::tcp) {
    TcpCompare::commit(*frame.flow, frame, out);
  } else {
    CompareState::append(out, frame.frame());
  }
}

void Comparer::Impl::forget_queues(Flow& flow) {
  if (flow.queues) *flow.queues = FlowQueues{};
  flow.held = false;
  state.flows.settle(flow);
}

void Comparer::Impl::forget_flows() {
  for (WaitingFrame* frame = state.oldest(); frame; frame = frame->newer) frame->flow = nullptr;
  state.forget_secondary();
  state.flows.clear();
}

void Comparer::Impl::tick(Time now) {
  state.set_now(now);
  state.report_timeouts([](Side side, const WaitingFrame& frame) {
    if (frame.flow->key.kind == Kind::tcp) return TcpCompare::describe(side, frame);
    return std::string(side == Side::primary ? "the primary" : "the secondary") +
           " VM's frame of " + std::to_string(frame.packet.payload_size) + " bytes of payload";
  });
}

Comparer::Comparer(CompareLimits limits) : impl_(std::make_unique<Impl>(limits)) {}
Comparer::~Comparer() = default;
Comparer::Comparer(Comparer&&) noexcept = default;
Comparer& Comparer::operator=(Comparer&&) noexcept = default;

void Comparer::primary(std::span<const std::byte> frames, Time now) {
  impl_->take(Side::primary, frames, now);
}
void Comparer::secondary(std::span<const std::byte> frames, Time now) {
  impl_->take(Side::secondary, frames, now);
}
void Comparer::secondary_entered(Time now) {
  impl_->state.secondary_entered(now);
}

Frames Comparer::take_released() {
  return impl_->state.take_released();
}
void Comparer::take_released(Frames& into) {
  impl_->state.take_released(into);
}
Frames Comparer::take_references() {
  return impl_->state.take_references();
}

Frames Comparer::close_epoch() {
  return impl_->close_epoch();
}
void Comparer::forget_flows() {
  impl_->forget_flows();
}

void Comparer::tick(Time now) {
  impl_->tick(now);
}
std::optional<Comparer::Time> Comparer::next_deadline() const {
  return impl_->state.next_deadline();
}
std::optional<Mismatch> Comparer::take_mismatch() {
  return impl_->state.take_mismatch();
}

const CompareCounters& Comparer::counters() const noexcept {
  return impl_->state.counters;
}
std::size_t Comparer::waiting_bytes() const noexcept {
  return impl_->state.waiting_bytes();
}
std::size_t Comparer::waiting_frames() const noexcept {
  return impl_->state.waiting_frames();
}
std::size_t Comparer::flows() const noexcept {
  return impl_->state.flows.size();
}
void Comparer::trace(Trace trace) {
  impl_->state.trace = std::move(trace);
}

}  // namespace tandem::proxy
