#include "proxy/compare_state.hpp"

#include <algorithm>
#include <cstring>

namespace tandem::proxy {

namespace {
/// How much longer output waits for a secondary VM that has not even begun: it may be loading.
constexpr int not_entered_factor = 4;
/// Released frames are handed over in vectors; a new one has room for as much as the last held, up
/// to this.
constexpr std::size_t hint_max = 1u << 20;
/// Bytes of both sides that a difference shows.
constexpr std::size_t shown_bytes = 8;
}  // namespace

CompareState::CompareState(CompareLimits limits)
    : flows(limits.flows_max), limits_(limits), pool_(2 * limits.waiting_bytes_hard) {}

CompareState::~CompareState() {
  begin_epoch();
}

void CompareState::begin_epoch() {
  ++epoch_;
  entered_.reset();
  found_ = false;
  mismatch_.reset();
  while (WaitingFrame* frame = primary_.oldest()) discard(Side::primary, *frame);
  forget_secondary();
}

void CompareState::make_room() {
  if (!std::exchange(refused_, false)) return;
  flows.erase_silent(epoch_);
  counters.flows_evicted = flows.evicted();
}

void CompareState::forget_secondary() {
  while (WaitingFrame* frame = secondary_.oldest()) {
    ++counters.secondary_forgotten_frames;
    discard(Side::secondary, *frame);
  }
}

Flow* CompareState::flow_of(Side side, const FlowKey& key) {
  Flow* flow = flows.get(key);
  counters.flows_evicted = flows.evicted();
  if (!flow) return nullptr;
  flow->enter(epoch_);
  if (side == Side::primary) flow->primary_seen = true;
  return flow;
}

std::vector<std::byte>& CompareState::room(Frames& to, std::size_t size) {
  const std::size_t needed = to.bytes.size() + size;
  if (needed > to.bytes.capacity()) {
    to.bytes.reserve(std::max(needed, 2 * to.bytes.capacity()));
  }
  return to.bytes;
}

void CompareState::append(Frames& to, std::span<const std::byte> frame) {
  room(to, frame.size()).insert(to.bytes.end(), frame.begin(), frame.end());
  ++to.count;
}

Frames CompareState::take(Frames& from, std::size_t& hint) {
  Frames taken = std::exchange(from, Frames{});
  if (taken.count == 0) return taken;
  hint = std::min(taken.bytes.size(), hint_max);
  from.bytes.reserve(hint);
  return taken;
}

void CompareState::take_released(Frames& into) {
  into.bytes.clear();
  into.count = 0;
  std::swap(into, released_);
}

WaitingFrame* CompareState::keep(Side side, const WaitingFrame& frame,
                                 std::span<const std::byte> bytes) {
  const std::size_t after = waiting_bytes_ + charge(bytes.size());
  const auto over = [&](std::size_t limit, std::string_view outcome) {
    report(Reason::overflow, frame.packet.key, 0, [&] {
      return "more than " + std::to_string(limit) + " bytes wait: the frame is " +
             std::string(outcome);
    });
  };
  if (after > limits_.waiting_bytes_hard) {
    ++(side == Side::primary ? counters.dropped_frames : counters.secondary_dropped_frames);
    tell(side, frame.frame(), [] { return "dropped: over the hard limit"; });
    over(limits_.waiting_bytes_hard, "dropped");
    return nullptr;
  }
  if (after > limits_.waiting_bytes_soft) over(limits_.waiting_bytes_soft, "kept");
  if (side == Side::primary) ++waiting_frames_;
  return add(side, frame, bytes);
}

WaitingFrame* CompareState::keep_owed(const WaitingFrame& frame, std::span<const std::byte> bytes,
                                      WaitingFrame* instead_of) {
  WaitingFrame* kept = add(Side::primary, frame, bytes);
  kept->owed = true;
  if (instead_of) {
    // It has been owed since then.
    kept->arrived = instead_of->arrived;
    primary_.remove(*kept);
    primary_.insert_before(*instead_of, *kept);
    discard(Side::primary, *instead_of);
  }
  return kept;
}

WaitingFrame* CompareState::add(Side side, const WaitingFrame& frame,
                                std::span<const std::byte> bytes) {
  WaitingFrame* kept = pool_.take(frame, bytes);
  kept->arrived = now_;
  kept->serial = ++serial_;
  waiting_bytes_ += charge(bytes.size());
  order(side).push_back(*kept);
  return kept;
}

void CompareState::discard(Side side, WaitingFrame& frame) {
  order(side).remove(frame);
  waiting_bytes_ -= charge(frame.size);
  if (side == Side::primary && !frame.owed) --waiting_frames_;
  pool_.give(&frame);
}

void CompareState::restart(WaitingFrame& frame) {
  primary_.remove(frame);
  frame.arrived = now_;
  primary_.push_back(frame);
}

CompareState::Time CompareState::deadline(Side side, const WaitingFrame& frame) const noexcept {
  if (side == Side::secondary) return frame.arrived + limits_.timeout;
  if (!entered_) return frame.arrived + not_entered_factor * limits_.timeout;
  return std::max(frame.arrived, *entered_) + limits_.timeout;
}

std::optional<CompareState::Due> CompareState::next_due() const {
  // What has no flow waits for the commit, which has been asked for when it came.
  const auto settled = [](const WaitingFrame& frame) {
    return !frame.flow || frame.flow->reported;
  };
  std::optional<Due> next;
  for (const Side side : {Side::primary, Side::secondary}) {
    WaitingFrame* frame = order(side).due(settled);
    if (!frame) continue;
    const Time at = deadline(side, *frame);
    if (!next || at < next->deadline) next = Due{side, frame, at};
  }
  return next;
}

std::optional<CompareState::Time> CompareState::next_deadline() const {
  const auto due = next_due();
  return due ? std::optional(due->deadline) : std::nullopt;
}

std::string describe_difference(std::span<const std::byte> here, std::span<const std::byte> there,
                                std::size_t at) {
  const auto show = [at](std::span<const std::byte> bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    if (at >= bytes.size()) return std::string("the end");
    bytes = bytes.subspan(at);
    std::string text;
    for (const std::byte b : bytes.first(std::min(shown_bytes, bytes.size()))) {
      const auto value = std::to_integer<unsigned>(b);
      text += {digits[value >> 4], digits[value & 15], ' '};
    }
    if (bytes.size() > shown_bytes) {
      text += "…";
    } else {
      text.pop_back();
    }
    return text;
  };
  return show(here) + " here, " + show(there) + " there";
}

std::size_t equal_bytes(const std::byte* a, const std::byte* b, std::size_t size) noexcept {
  if (size == 0 || std::memcmp(a, b, size) == 0) return size;
  return static_cast<std::size_t>(std::mismatch(a, a + size, b).first - a);
}

}  // namespace tandem::proxy
