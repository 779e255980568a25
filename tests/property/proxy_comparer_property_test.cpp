// Properties of the comparer over generated streams: any two segmentations, retransmissions and
// reorderings of a stream are the same stream, and what is not the same does not leave.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "proxy/comparer.hpp"
#include "tests/unit/packet_builder.hpp"

namespace tandem::proxy {
namespace {

using namespace test;
using Side = Comparer::Side;

/// Numbers that follow from one drawn seed: to draw each would take most of the test's time.
class Rng {
 public:
  explicit Rng(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint32_t operator()(std::uint32_t below) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>((state_ >> 33) % std::max(below, 1u));
  }
  bool chance(std::uint32_t one_in) { return (*this)(one_in) == 0; }

 private:
  std::uint64_t state_;
};

Rng any_rng() {
  return Rng(*rc::gen::arbitrary<std::uint64_t>());
}

/// Anywhere, and near the wrap-around more often than it would come by itself.
std::uint32_t any_sequence_number(std::uint32_t before_wrap) {
  if (*rc::gen::arbitrary<bool>()) return *rc::gen::arbitrary<std::uint32_t>();
  return 0u - *rc::gen::inRange<std::uint32_t>(0, before_wrap + 2);
}

/// Bytes [from, to) of a stream, and what they acknowledge; offsets from the base.
struct Segment {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  std::uint32_t ack = 0;
  bool syn = false;
  bool fin = false;
};

/// One VM's way to send a stream.
struct Plan {
  std::string stream;
  std::vector<Segment> segments;
};

struct PlanShape {
  bool syn = false;
  bool fin = false;
  bool retransmits = true;
  bool reorders = true;
  bool pure_acks = true;
  std::uint32_t segment_max = 400;
};

Plan make_plan(const std::string& stream, const PlanShape& shape, std::uint32_t from, Rng& rng) {
  Plan plan{stream, {}};
  const auto size = static_cast<std::uint32_t>(stream.size());
  // Not so many segments that those out of order meet their limit.
  const std::uint32_t largest = 1 + size / 100 + rng(shape.segment_max);
  while (from < size) {
    const std::uint32_t to = std::min(size, from + 1 + rng(largest));
    plan.segments.push_back({from, to});
    if (shape.retransmits && rng.chance(4)) {
      const std::uint32_t again = rng(to);
      plan.segments.push_back({again, std::min(to, again + 1 + rng(largest))});
    }
    if (shape.pure_acks && rng.chance(4)) plan.segments.push_back({to, to});
    from = to;
  }
  if (shape.fin) {
    if (plan.segments.empty() || plan.segments.back().to != size || rng.chance(2)) {
      plan.segments.push_back({size, size});
    }
    plan.segments.back().fin = true;
    if (rng.chance(2)) plan.segments.push_back({size, size, 0, false, true});
  }
  if (shape.reorders) {
    // The first one stays: where a stream begins has to be known.
    for (std::size_t i = 2; i < plan.segments.size(); ++i) {
      if (rng.chance(3)) {
        const std::size_t other =
            i - 1 - rng(static_cast<std::uint32_t>(std::min<std::size_t>(i - 1, 6)));
        if (other > 0) std::swap(plan.segments[i], plan.segments[other]);
      }
    }
  }
  std::uint32_t ack = 0;
  for (Segment& segment : plan.segments) {
    if (rng.chance(2)) ack += rng(500);
    segment.ack = ack;
  }
  if (shape.syn) plan.segments.insert(plan.segments.begin(), {0, 0, 0, true});
  return plan;
}

/// Two VMs, the comparer between them, and the client that gets what it lets pass.
class World {
 public:
  World(std::uint32_t base, std::uint32_t ack_base, bool syn)
      : base_(base), ack_base_(ack_base), syn_(syn) {}

  Comparer comparer;

  void send(Side side, const Plan& plan, const Segment& segment) {
    Vm& vm = side == Side::primary ? primary_ : secondary_;
    Tcp made{.seq = base_ + segment.from,
             .ack = ack_base_ + segment.ack,
             .options = test::timestamp_option(time_ += 5, 6),
             .payload = plan.stream.substr(segment.from, segment.to - segment.from)};
    if (segment.syn) {
      made.flags |= tcp_flag::syn;
      --made.seq;
      made.options = syn_options(time_);
      vm.syn = true;
    }
    if (segment.fin) {
      made.flags |= tcp_flag::fin;
      vm.fin = true;
    }
    for (std::uint32_t i = segment.from; i < segment.to; ++i) {
      vm.bytes[i].insert(plan.stream[i]);
    }
    while (vm.bytes.contains(vm.prefix)) ++vm.prefix;
    vm.ack = std::max(vm.ack.value_or(0), segment.ack);
    const Bytes frame = tcp(made);
    side == Side::primary ? comparer.primary(frame, now_) : comparer.secondary(frame, now_);
    take(comparer.take_released(), true);
  }

  /// The client takes frames; `compared`: they left without a commit.
  void take(const Frames& frames, bool compared) {
    for (const Bytes& frame : split(frames.bytes)) {
      ++taken_;
      Packet packet;
      RC_ASSERT(parse(frame, Direction::from_guest, packet) == Malformed::none);
      RC_ASSERT(reference_errors(frame) == "");
      const auto timestamp = timestamps(frame, packet);
      RC_ASSERT(bool(timestamp));
      RC_ASSERT(!client_time_ || at_or_before(*client_time_, timestamp->value));  // PAWS
      client_time_ = timestamp->value;
      if (packet.has(tcp_flag::syn)) {
        RC_ASSERT(!compared || (primary_.syn && secondary_.syn));
        syn_left_ = true;
      } else if (compared && syn_) {
        RC_ASSERT(syn_left_);
      }
      const std::uint32_t ack = packet.ack - ack_base_;
      if (compared) RC_ASSERT(ack <= ack_limit());
      client_ack_ = std::max(client_ack_.value_or(0), ack);
      if (packet.payload_size == 0 && !packet.has(tcp_flag::fin)) continue;
      const std::uint32_t from = packet.seq - base_;
      if (compared) RC_ASSERT(from <= next_);  // in order, without gaps
      for (std::uint32_t i = 0; i < packet.payload_size; ++i) {
        const std::uint32_t at = from + i;
        const char byte = static_cast<char>(frame[packet.payload + i]);
        if (at < next_) continue;
        if (compared) {
          const auto theirs = secondary_.bytes.find(at);
          RC_ASSERT(theirs != secondary_.bytes.end() && theirs->second.contains(byte));
        }
        received_.emplace(at, byte);
        while (received_.contains(next_)) ++next_;
      }
      if (packet.has(tcp_flag::fin)) {
        RC_ASSERT(!compared || secondary_.fin);
        fin_left_ = true;
      }
    }
  }

  void close_epoch() {
    take(comparer.close_epoch(), false);
    committed_ack_ = primary_.ack;
    RC_ASSERT(next_ == primary_.prefix);
    secondary_ = Vm{};
    secondary_.prefix = primary_.prefix;
    secondary_.syn = primary_.syn;
    secondary_.fin = fin_left_;
  }

  /// What may leave has left, and no more.
  void expect_exact() const {
    if (syn_ && !(primary_.syn && secondary_.syn)) {
      RC_ASSERT(next_ == 0u);
    } else {
      RC_ASSERT(next_ == std::min(primary_.prefix, secondary_.prefix));
    }
  }
  void expect_complete() const {
    const CompareCounters& c = comparer.counters();
    RC_ASSERT(c.primary_frames + c.split_frames + c.made_acknowledgements ==
              c.released_frames + c.committed_frames + c.dropped_frames +
                  comparer.waiting_frames());
    RC_ASSERT(c.released_frames + c.committed_frames == taken_);
    RC_ASSERT(c.dropped_frames == 0u);
  }
  void expect_no_difference() { RC_ASSERT(!comparer.take_mismatch()); }
  void expect_nothing_waits() const {
    RC_ASSERT(comparer.waiting_frames() == 0u);
    RC_ASSERT(comparer.waiting_bytes() == 0u);
    RC_ASSERT(!comparer.next_deadline());
  }
  void expect_received(const std::string& stream, bool fin) const {
    RC_ASSERT(next_ == stream.size());
    for (std::uint32_t i = 0; i < next_; ++i) RC_ASSERT(received_.at(i) == stream[i]);
    RC_ASSERT(fin_left_ == fin);
    RC_ASSERT(client_ack_.value_or(0) == ack_limit());
  }
  [[nodiscard]] std::uint32_t next() const { return next_; }
  [[nodiscard]] std::uint32_t primary_sent() const { return primary_.prefix; }

 private:
  struct Vm {
    std::map<std::uint32_t, std::set<char>> bytes;
    std::uint32_t prefix = 0;
    std::optional<std::uint32_t> ack;
    bool syn = false;
    bool fin = false;
  };
  /// What both have acknowledged; what was committed, both have.
  [[nodiscard]] std::uint32_t ack_limit() const {
    const std::uint32_t theirs = std::max(secondary_.ack.value_or(0), committed_ack_.value_or(0));
    return std::min(primary_.ack.value_or(0), theirs);
  }

  std::uint32_t base_;
  std::uint32_t ack_base_;
  bool syn_;
  Comparer::Time now_{std::chrono::hours(1)};
  Vm primary_;
  Vm secondary_;
  std::optional<std::uint32_t> committed_ack_;
  std::map<std::uint32_t, char> received_;
  std::uint32_t next_ = 0;
  std::optional<std::uint32_t> client_ack_;
  std::uint32_t time_ = 0xfffff000;  ///< of the VMs' timestamps
  std::optional<std::uint32_t> client_time_;
  std::uint64_t taken_ = 0;
  bool syn_left_ = false;
  bool fin_left_ = false;
};

/// Both plans in any interleaving; `after` is called after each segment.
template <typename After>
void play(World& world, const Plan& primary, const Plan& secondary, Rng& rng, After after) {
  std::size_t p = 0;
  std::size_t s = 0;
  const std::uint32_t favour = 1 + rng(9);  // which VM is ahead, mostly
  while (p < primary.segments.size() || s < secondary.segments.size()) {
    const bool ours =
        s == secondary.segments.size() || (p < primary.segments.size() && rng(10) < favour);
    if (ours) {
      world.send(Side::primary, primary, primary.segments[p++]);
    } else {
      world.send(Side::secondary, secondary, secondary.segments[s++]);
    }
    after();
  }
}

RC_GTEST_PROP(ComparerProperty, TheSameStreamIsTheSameHoweverItIsSent, ()) {
  Rng rng = any_rng();
  const auto size = *rc::gen::inRange<std::uint32_t>(0, 3000);
  const std::string stream = pattern(size, rng(1u << 30));
  const PlanShape shape{.syn = *rc::gen::arbitrary<bool>(), .fin = *rc::gen::arbitrary<bool>()};
  const Plan primary = make_plan(stream, shape, 0, rng);
  const Plan secondary = make_plan(stream, shape, 0, rng);
  World world(any_sequence_number(size), any_sequence_number(4000), shape.syn);
  play(world, primary, secondary, rng, [&] {
    world.expect_exact();
    world.expect_complete();
  });
  // What the one has acknowledged more than the other is still owed.
  for (const Side side : {Side::primary, Side::secondary}) {
    world.send(side, primary, {size, size, 10'000'000});
  }
  world.expect_no_difference();
  world.expect_received(stream, shape.fin);
  world.expect_complete();
  world.expect_nothing_waits();
}

RC_GTEST_PROP(ComparerProperty, ASingleByteThatDiffersIsFoundAndStopsItsFlow, ()) {
  Rng rng = any_rng();
  const auto size = *rc::gen::inRange<std::uint32_t>(1, 2000);
  const std::string stream = pattern(size, rng(1u << 30));
  std::string other = stream;
  const std::uint32_t at = rng(size);
  other[at] = static_cast<char>(other[at] ^ static_cast<char>(1 + rng(255)));
  const PlanShape shape{.syn = *rc::gen::arbitrary<bool>()};
  const Plan primary = make_plan(stream, shape, 0, rng);
  const Plan secondary = make_plan(other, shape, 0, rng);
  const std::uint32_t base = any_sequence_number(size);
  World world(base, any_sequence_number(4000), shape.syn);
  play(world, primary, secondary, rng, [&] {
    RC_ASSERT(world.next() <= at);
    world.expect_complete();
  });
  const auto mismatch = world.comparer.take_mismatch();
  RC_ASSERT(world.next() == at);
  RC_ASSERT(bool(mismatch));
  RC_ASSERT(mismatch->reason == Reason::payload);
  RC_ASSERT(mismatch->position == (shape.syn ? at : base + at));
  RC_ASSERT(!world.comparer.next_deadline());
}

RC_GTEST_PROP(ComparerProperty, OfCopiesThatContradictEachOtherNoneLeavesUncompared, ()) {
  // Any segment of either VM may hold a byte that others do not; World checks that each byte that
  // is new to the client was sent by the secondary, too.
  Rng rng = any_rng();
  const auto size = *rc::gen::inRange<std::uint32_t>(1, 500);
  const std::string stream = pattern(size, 1);
  const PlanShape shape{.segment_max = 60};
  const Plan primary = make_plan(stream, shape, 0, rng);
  const Plan secondary = make_plan(stream, shape, 0, rng);
  Plan corrupted[2] = {primary, secondary};
  World world(any_sequence_number(size), 0, false);
  std::size_t next[2] = {0, 0};
  const std::uint32_t favour = 1 + rng(9);
  while (next[0] < primary.segments.size() || next[1] < secondary.segments.size()) {
    const std::size_t which = next[1] == secondary.segments.size() ||
                                      (next[0] < primary.segments.size() && rng(10) < favour)
                                  ? 0
                                  : 1;
    Plan& plan = corrupted[which];
    const Segment segment = plan.segments[next[which]++];
    plan.stream = stream;
    if (segment.from < segment.to && rng.chance(5)) {
      char& byte = plan.stream[segment.from + rng(segment.to - segment.from)];
      byte = static_cast<char>(byte ^ 1);
    }
    world.send(which == 0 ? Side::primary : Side::secondary, plan, segment);
    world.expect_complete();
  }
}

RC_GTEST_PROP(ComparerProperty, AStreamThatEndsEarlierIsADifference, ()) {
  Rng rng = any_rng();
  const auto size = *rc::gen::inRange<std::uint32_t>(1, 1000);
  const std::string stream = pattern(size, rng(1u << 30));
  const std::string shorter = stream.substr(0, rng(size));
  const bool primary_ends = *rc::gen::arbitrary<bool>();
  const PlanShape shape{.syn = true, .fin = true};
  const Plan primary = make_plan(primary_ends ? shorter : stream, shape, 0, rng);
  const Plan secondary = make_plan(primary_ends ? stream : shorter, shape, 0, rng);
  World world(any_sequence_number(size), any_sequence_number(4000), true);
  play(world, primary, secondary, rng, [&] { world.expect_complete(); });
  RC_ASSERT(world.next() == shorter.size());
  const auto mismatch = world.comparer.take_mismatch();
  RC_ASSERT(bool(mismatch));
  RC_ASSERT(mismatch->reason == Reason::length);
  RC_ASSERT(mismatch->position == shorter.size());
}

RC_GTEST_PROP(ComparerProperty, EpochsMayCloseAtAnyInstant, ()) {
  Rng rng = any_rng();
  const auto size = *rc::gen::inRange<std::uint32_t>(1, 3000);
  const std::string stream = pattern(size, rng(1u << 30));
  const bool syn = *rc::gen::arbitrary<bool>();
  const bool fin = *rc::gen::arbitrary<bool>();
  // The guest sends in order; what is sent again was sent before.
  const PlanShape shape{.syn = syn, .fin = fin, .reorders = false};
  const Plan primary = make_plan(stream, shape, 0, rng);
  Plan secondary = make_plan(stream, shape, 0, rng);
  World world(any_sequence_number(size), any_sequence_number(4000), syn);
  const std::uint32_t epoch_length = 2 + rng(30);
  const std::uint32_t favour = 1 + rng(9);
  std::size_t p = 0;
  std::size_t s = 0;
  while (p < primary.segments.size() || s < secondary.segments.size()) {
    const bool ours =
        s == secondary.segments.size() || (p < primary.segments.size() && rng(10) < favour);
    if (ours) {
      world.send(Side::primary, primary, primary.segments[p++]);
    } else {
      world.send(Side::secondary, secondary, secondary.segments[s++]);
    }
    world.expect_complete();
    if (p > 0 && rng.chance(epoch_length)) {
      world.expect_no_difference();
      world.close_epoch();
      world.expect_complete();
      world.expect_nothing_waits();
      // The secondary goes on from the primary's state: it may send again what was sent.
      PlanShape rest = shape;
      rest.syn = false;
      const std::uint32_t from = world.primary_sent();
      const std::uint32_t ack = primary.segments[p - 1].ack;
      secondary = make_plan(stream, rest, from - rng(std::min(from, 100u)), rng);
      for (Segment& segment : secondary.segments) segment.ack += ack;
      s = 0;
    }
  }
  world.expect_no_difference();
  world.take(world.comparer.close_epoch(), false);
  RC_ASSERT(world.next() == size);
}

RC_GTEST_PROP(ComparerProperty, DatagramsLeaveInOrderUpToTheFirstThatDiffers, ()) {
  Rng rng = any_rng();
  const auto count = *rc::gen::inRange<std::uint32_t>(1, 40);
  const std::uint32_t differs_at = rng(2 * count);  // often beyond the end: none differs
  std::vector<Bytes> ours;
  std::vector<Bytes> theirs;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string payload = pattern(1 + rng(50), rng(1u << 30));
    ours.push_back(udp({.payload = payload}, {.ip_id = static_cast<std::uint16_t>(i)}));
    if (i == differs_at) {
      if (rng.chance(2)) {
        payload += 'x';
      } else {
        payload[rng(static_cast<std::uint32_t>(payload.size()))] ^= 1;
      }
    }
    theirs.push_back(udp({.payload = payload}, {.ttl = 7}));
  }
  Comparer comparer;
  const Comparer::Time now{};
  Bytes out;
  std::size_t p = 0;
  std::size_t s = 0;
  const std::uint32_t favour = 1 + rng(9);
  while (p < count || s < count) {
    const bool primary = s == count || (p < count && rng(10) < favour);
    primary ? comparer.primary(ours[p++], now) : comparer.secondary(theirs[s++], now);
    out += comparer.take_released().bytes;
    const auto left = split(out);
    RC_ASSERT(left.size() == std::min<std::size_t>({p, s, differs_at}));
    for (std::size_t i = 0; i < left.size(); ++i) RC_ASSERT(left[i] == ours[i]);
  }
  RC_ASSERT(bool(comparer.take_mismatch()) == (differs_at < count));
  const auto held = split(comparer.close_epoch().bytes);
  for (std::size_t i = 0; i < held.size(); ++i) {
    RC_ASSERT(held[i] == ours[std::min(differs_at, count) + i]);
  }
}

/// Frames as no honest guest sends them: cut, lengthened, with any byte changed, few flows.
Bytes any_frame(Rng& rng) {
  const auto port = static_cast<std::uint16_t>(rng(4));
  const auto flags = static_cast<std::uint8_t>(rng.chance(3) ? rng(256) : 0x10);
  const Link link{.vlans = std::vector<std::uint16_t>(rng(4) / 3, std::uint16_t{5}),
                  .source = rng.chance(3) ? "fd00::2" : "10.0.0.2",
                  .destination = "10.0.0.1",
                  .checksum = rng.chance(2) ? Checksum::partial : Checksum::complete};
  Link fitting = link;
  if (fitting.source == "fd00::2") fitting.destination = "fd00::1";
  Bytes frame;
  switch (rng(6)) {
    case 0:
      frame = udp({.destination_port = port, .payload = pattern(rng(30))}, fitting);
      break;
    case 1:
      frame = icmp({.sequence = port}, fitting);
      break;
    case 2:
      frame = arp(rng.chance(2));
      break;
    default:
      frame = tcp({.destination_port = port,
                   .seq = 0xfffffff0 + rng(60),
                   .ack = 0xfffffff0 + rng(60),
                   .flags = flags,
                   .options = rng.chance(4) ? syn_options(rng(10)) : Bytes{},
                   .payload = pattern(rng(40), rng(2)),
                   .gso_size = static_cast<std::uint16_t>(rng.chance(4) ? 10 : 0)},
                  fitting);
  }
  if (rng.chance(4)) {
    for (std::uint32_t i = 0; i <= rng(3); ++i) {
      frame[8 + rng(static_cast<std::uint32_t>(frame.size() - 8))] =
          static_cast<std::byte>(rng(256));
    }
  }
  if (rng.chance(8)) {
    frame.resize(8 + rng(120));
    store_be(frame.data(), static_cast<std::uint32_t>(frame.size() - 8));
  }
  return frame;
}

RC_GTEST_PROP(ComparerProperty, WhateverIsSentNoFrameGetsLostUncounted, ()) {
  Rng rng = any_rng();
  const CompareLimits limits{.waiting_bytes_soft = 500 + rng(3000),
                             .waiting_bytes_hard = 1000 + rng(6000),
                             .flows_max = 1 + rng(12)};
  Comparer comparer(limits);
  Comparer::Time now{std::chrono::hours(1)};
  std::uint64_t sent = 0;
  std::uint64_t taken = 0;
  const auto take = [&](const Frames& frames) {
    RC_ASSERT(split(frames.bytes).size() == frames.count);
    taken += frames.count;
  };
  const auto steps = *rc::gen::inRange(1, 400);
  for (int i = 0; i < steps; ++i) {
    const Bytes frame = any_frame(rng);
    switch (rng(5)) {
      case 0:
      case 1:
        comparer.primary(frame, now);
        ++sent;
        break;
      case 2:
        comparer.secondary(frame, now);
        break;
      case 3:
        comparer.primary(frame, now);
        comparer.secondary(frame, now);
        ++sent;
        break;
      default:
        now += std::chrono::milliseconds(rng(100));
        comparer.tick(now);
        if (const auto deadline = comparer.next_deadline()) RC_ASSERT(*deadline > now);
        if (rng.chance(10)) comparer.secondary_entered(now);
        if (rng.chance(20)) take(comparer.close_epoch());
        if (rng.chance(50)) comparer.forget_flows();
    }
    take(comparer.take_released());
    const CompareCounters& c = comparer.counters();
    RC_ASSERT(c.primary_frames == sent);
    RC_ASSERT(c.released_frames + c.committed_frames == taken);
    RC_ASSERT(sent + c.split_frames + c.made_acknowledgements ==
              taken + c.dropped_frames + comparer.waiting_frames());
    RC_ASSERT(comparer.flows() <= limits.flows_max);
    // Acknowledgements that are owed have no limit of their own: one a flow at most.
    RC_ASSERT(comparer.waiting_bytes() <= limits.waiting_bytes_hard + 200 * limits.flows_max);
  }
  take(comparer.close_epoch());
  RC_ASSERT(comparer.waiting_frames() == 0u);
  RC_ASSERT(comparer.waiting_bytes() == 0u);
}

}  // namespace
}  // namespace tandem::proxy
