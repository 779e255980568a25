// libFuzzer target: both VMs' frames in any order, epochs that end, time that passes, through the
// translator and the comparer, beside a simple model of what may leave and when.
//
// Checked: whatever the primary VM sends leaves exactly once, released or with the commit, and the
// counters say the same; nothing is released that the secondary VM has not sent in this epoch,
// unless it had left before; no acknowledgement is released beyond what both have acknowledged;
// frames that leave have right checksums; tick() leaves nothing due behind.
//
// The input is a list of operations: a byte that says which, and bytes that say with what.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "proxy/comparer.hpp"
#include "proxy/translator.hpp"
#include "tests/unit/packet_builder.hpp"

namespace {

using namespace tandem::proxy;
using test::Bytes;
using test::operator+;
using test::operator+=;
using Side = Comparer::Side;
using Time = Comparer::Time;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t next() {
    if (bytes_.empty()) return 0;
    const auto value = std::to_integer<std::uint8_t>(bytes_.front());
    bytes_ = bytes_.subspan(1);
    return value;
  }
  Bytes next(std::size_t size) {
    const auto taken = bytes_.first(std::min(size, bytes_.size()));
    bytes_ = bytes_.subspan(taken.size());
    return {taken.begin(), taken.end()};
  }

 private:
  std::span<const std::byte> bytes_;
};

// ---- The model

/// What of a frame is compared that is not TCP; a checksum and Ethernet padding are not.
Bytes content_of(std::span<const std::byte> frame, const Packet& packet) {
  const std::size_t from = packet.kind == Kind::link
                               ? 8 + tandem::load_be<std::uint32_t>(frame.data() + 4)
                               : packet.transport;
  const std::size_t to = std::size_t{packet.payload} + packet.payload_size;
  Bytes content(frame.begin() + static_cast<std::ptrdiff_t>(from),
                frame.begin() + static_cast<std::ptrdiff_t>(to));
  if (packet.kind == Kind::udp || packet.kind == Kind::icmp) {
    const std::size_t at = packet.kind == Kind::udp ? 6 : 2;
    content[at] = content[at + 1] = std::byte{0};
  }
  if (packet.kind == Kind::link) {
    while (!content.empty() && content.back() == std::byte{0}) content.pop_back();
  }
  test::put16(content, packet.fragment_offset);
  test::put8(content, packet.more_fragments ? 1 : 0);
  return content;
}

class Model {
 public:
  /// Also whether it may leave yet, and not only whether all of it leaves once.
  bool strict = true;

  void primary_sends(std::span<const std::byte> frame) {
    Packet packet;
    if (parse(frame, Direction::from_guest, packet) != Malformed::none ||
        packet.kind != Kind::tcp) {
      ++whole_[Bytes(frame.begin(), frame.end())];
      return;
    }
    Flow& flow = flow_of(packet.key);
    for (const auto& event : events_of(packet)) ++flow.events[event];
    note_order(flow, packet);
    // What is before the first segment that is seen, and before a reset, counts as sent before.
    if (!flow.known && !packet.has(tcp_flag::syn)) {
      const bool data = packet.sequence_length() != 0 && packet.has(tcp_flag::ack);
      if (data || packet.has(tcp_flag::rst)) left_up_to(flow, packet.seq);
      flow.known = data && !packet.has(tcp_flag::rst);
    }
    each_byte(frame, packet, [&](std::uint32_t at, std::byte value) {
      ++flow.bytes[{at, value}];
      // What comes with a reset or without ACK nobody takes for a part of the stream.
      const bool aside = packet.has(tcp_flag::rst) || !packet.has(tcp_flag::ack);
      if (!has_left(flow, at) && !aside) flow.fresh.insert({at, value});
    });
  }

  void secondary_sends(std::span<const std::byte> frame) {
    Packet packet;
    if (parse(frame, Direction::from_guest, packet) != Malformed::none) return;
    Flow& flow = flow_of(packet.key);
    if (packet.kind != Kind::tcp) {
      ++flow.contents[content_of(frame, packet)];
      return;
    }
    each_byte(frame, packet, [&](std::uint32_t at, std::byte value) {
      flow.secondary_bytes.insert({at, value});
    });
    for (const auto& event : events_of(packet)) flow.secondary_events.insert(event);
    if (packet.has(tcp_flag::ack)) raise(flow.secondary_ack, packet.ack);
  }

  /// A frame comes out, by comparison or else with the commit.
  void leaves(std::span<const std::byte> frame, bool released) {
    Packet packet;
    const bool parsed = parse(frame, Direction::from_guest, packet) == Malformed::none;
    if (!parsed || packet.kind != Kind::tcp) {
      take(whole_, Bytes(frame.begin(), frame.end()), "a frame leaves that was not sent");
      if (!released) return;
      require(parsed, "a frame was released that cannot be parsed");
      Flow& flow = flow_of(packet.key);
      take(flow.contents, content_of(frame, packet), "a datagram that only one has sent");
      return;
    }
    Flow& flow = flow_of(packet.key);
    const bool wild = flow.wild || flow.absurd || !strict;
    if (!flow.wild) {
      require(checksums_are_right(frame, packet), "a checksum became wrong");
      const std::string error = test::reference_errors(frame);
      if (!error.empty()) std::fprintf(stderr, "%s\n", error.c_str());
      require(error.empty(), "a frame became wrong");
    }
    if (released && !wild) check_released(flow, frame, packet);
    each_byte(frame, packet, [&](std::uint32_t at, std::byte value) {
      take(flow.bytes, Place{at, value}, "a byte leaves that was not sent, or twice");
    });
    for (const auto& event : events_of(packet)) {
      take(flow.events, event, "an event that was not sent, or twice");
      flow.events_left.insert(event);
    }
    if (packet.sequence_length() != 0 || packet.has(tcp_flag::rst)) {
      left_up_to(flow, packet.seq + packet.sequence_length());
    }
    if (packet.has(tcp_flag::ack)) raise(flow.ack_left, packet.ack);
  }

  /// A frame of the primary VM was dropped, perhaps after a part of it had left.
  void dropped() {
    lossy_ = true;
    for (auto& [key, flow] : flows_) flow.fresh.clear();
  }

  /// Frames of this flow are no VM's.
  void run_wild(std::span<const std::byte> frame) {
    Packet packet;
    if (parse(frame, Direction::from_guest, packet) != Malformed::none) return;
    flow_of(packet.key).wild = true;
  }

  void epoch_ends() {
    for (auto& [key, flow] : flows_) {
      if (!lossy_) require(flow.bytes.empty() && flow.events.empty(), "a segment never leaves");
      flow.bytes.clear();
      flow.events.clear();
      flow.fresh.clear();
      flow.secondary_bytes.clear();
      flow.secondary_events.clear();
      flow.contents.clear();
      flow.secondary_ack.reset();
    }
    if (!lossy_) require(whole_.empty(), "a frame never leaves");
    whole_.clear();
    lossy_ = false;
  }

  void forget() {
    for (auto& [key, flow] : flows_) flow.known = false;
  }

 private:
  struct Place {
    std::uint32_t at = 0;
    std::byte value{};
    friend bool operator==(const Place&, const Place&) = default;
  };
  /// SYN and FIN by their sequence number; RST anywhere, since it moves behind its payload.
  struct Event {
    std::uint8_t flag = 0;
    std::uint32_t at = 0;
    friend bool operator==(const Event&, const Event&) = default;
  };
  struct Hash {
    std::size_t operator()(const Place& place) const noexcept {
      return place.at * 257u + std::to_integer<unsigned>(place.value);
    }
    std::size_t operator()(const Event& event) const noexcept {
      return event.at * 257u + event.flag;
    }
    std::size_t operator()(const Bytes& bytes) const noexcept {
      return static_cast<std::size_t>(test::reference_sum(bytes)) + bytes.size();
    }
  };
  struct Flow {
    std::unordered_map<Place, int, Hash> bytes;  ///< sent, and not left yet
    std::unordered_set<Place, Hash> fresh;       ///< sent before anything had left there
    std::unordered_map<Event, int, Hash> events;
    std::unordered_set<Place, Hash> secondary_bytes;  ///< in this epoch
    std::unordered_set<Event, Hash> secondary_events;
    std::unordered_map<Bytes, int, Hash> contents;  ///< the secondary's datagrams, not matched yet
    std::unordered_set<Event, Hash> events_left;
    std::optional<std::uint32_t> high;  ///< behind the highest position that has left
    std::optional<std::uint32_t> ack_left;
    std::optional<std::uint32_t> secondary_ack;
    bool known = false;
    bool wild = false;
    std::optional<std::uint32_t> opening;  ///< where the connection goes on that was begun last
    bool reset = false;                    ///< and has not been begun anew
    bool absurd = false;                   ///< the primary sends what no VM sends
  };

  /// No VM sends anything behind its own reset, nor begins a connection's stream with a gap:
  /// nothing is promised for what would follow.
  static void note_order(Flow& flow, const Packet& packet) {
    if (packet.has(tcp_flag::rst)) {
      flow.reset = true;
    } else if (packet.has(tcp_flag::syn)) {
      flow.reset = false;
      flow.opening = packet.seq + packet.sequence_length();
    } else if (packet.sequence_length() != 0) {
      if (flow.reset || (flow.opening && before(*flow.opening, packet.seq))) flow.absurd = true;
      flow.opening.reset();
    }
  }

  Flow& flow_of(const FlowKey& key) { return flows_[key]; }

  template <typename Visit>
  static void each_byte(std::span<const std::byte> frame, const Packet& packet, Visit visit) {
    const std::uint32_t start = packet.seq + (packet.has(tcp_flag::syn) ? 1 : 0);
    for (std::uint32_t i = 0; i < packet.payload_size; ++i) {
      visit(start + i, frame[packet.payload + i]);
    }
  }

  static std::vector<Event> events_of(const Packet& packet) {
    std::vector<Event> events;
    if (packet.has(tcp_flag::rst)) events.push_back({tcp_flag::rst, 0});
    if (packet.has(tcp_flag::syn)) events.push_back({tcp_flag::syn, packet.seq});
    if (packet.has(tcp_flag::fin)) {
      events.push_back({tcp_flag::fin, packet.seq + packet.sequence_length() - 1});
    }
    return events;
  }

  template <typename Map, typename Key>
  static void take(Map& map, const Key& key, const char* what) {
    const auto found = map.find(key);
    require(found != map.end(), what);
    if (--found->second == 0) map.erase(found);
  }

  static void raise(std::optional<std::uint32_t>& number, std::uint32_t to) {
    if (!number || before(*number, to)) number = to;
  }
  static void left_up_to(Flow& flow, std::uint32_t position) { raise(flow.high, position); }
  static bool has_left(const Flow& flow, std::uint32_t position) {
    return flow.high && before(position, *flow.high);
  }

  static void check_released(const Flow& flow, std::span<const std::byte> frame,
                             const Packet& packet) {
    // A reset's payload is no part of the stream.
    if (!packet.has(tcp_flag::rst)) {
      each_byte(frame, packet, [&](std::uint32_t at, std::byte value) {
        // What was sent again after it had left need not be what it was.
        const bool again = has_left(flow, at) && !flow.fresh.contains({at, value});
        require(again || flow.secondary_bytes.contains({at, value}),
                "payload that only one has sent");
      });
    }
    for (const auto& event : events_of(packet)) {
      require(flow.secondary_events.contains(event) || flow.events_left.contains(event) ||
                  (event.flag == tcp_flag::fin && has_left(flow, event.at)),
              "an event that only one has sent");
    }
    if (!packet.has(tcp_flag::ack)) return;
    require((flow.secondary_ack && at_or_before(packet.ack, *flow.secondary_ack)) ||
                (flow.ack_left && at_or_before(packet.ack, *flow.ack_left)),
            "an acknowledgement that only one has sent");
  }

  std::unordered_map<FlowKey, Flow> flows_;
  std::unordered_map<Bytes, int, Hash> whole_;  ///< not TCP
  bool lossy_ = false;
};

// ---- The world

class World {
 public:
  explicit World(std::uint8_t mode) : comparer_(limits(mode)), translated_((mode & 2) != 0) {
    // With so few flows, one that is forgotten begins anew in the middle.
    model_.strict = (mode & 4) == 0;
    translator_.learn(translated_);
  }

  void run(Input& input) {
    for (int operations = 0; operations < operations_max && !input.empty(); ++operations) {
      step(input);
      check();
    }
    end_epoch();
    check();
  }

 private:
  static constexpr int operations_max = 256;

  static CompareLimits limits(std::uint8_t mode) {
    CompareLimits limits;
    if ((mode & 1) != 0) {
      limits.waiting_bytes_soft = 1500;
      limits.waiting_bytes_hard = 3000;
    }
    if ((mode & 4) != 0) limits.flows_max = 2;
    return limits;
  }

  struct Segment {
    std::uint8_t flow = 0;
    std::uint32_t position = 0;  ///< of the stream; the SYN is at -1
    std::string payload;
    std::uint8_t flags = 0;
    std::uint32_t ack = 0;
    std::uint8_t shape = 0;
  };

  void step(Input& input) {
    const std::uint8_t operation = input.next();
    switch (operation & 15) {
      case 0:
      case 1:
        return send(Side::primary, read_segment(input));
      case 2:
      case 3:
        return send(Side::secondary, read_segment(input));
      case 4: {
        const Segment segment = read_segment(input);
        send(Side::primary, segment);
        return send(Side::secondary, segment);
      }
      case 5: {  // the same bytes, cut differently, the secondary's first
        const Segment segment = read_segment(input);
        const std::size_t cut = segment.payload.size() * (operation >> 4) / 16;
        Segment first = segment;
        first.payload.resize(cut);
        first.flags &= static_cast<std::uint8_t>(~tcp_flag::fin);
        Segment second = segment;
        second.payload.erase(0, cut);
        second.position += static_cast<std::uint32_t>(cut);
        second.flags &= static_cast<std::uint8_t>(~tcp_flag::syn);
        send(Side::secondary, first);
        send(Side::secondary, second);
        return send(Side::primary, segment);
      }
      case 6:
      case 7: {
        const std::uint8_t flow = operation >> 4 & 3;
        // Both or one of them opens a connection anew.
        if ((operation & 0x40) == 0) open(Side::primary, flow);
        if ((operation & 0x80) == 0) open(Side::secondary, flow);
        return;
      }
      case 8:
        return send_datagram(Side::primary, input);
      case 9:
        return send_datagram(Side::secondary, input);
      case 10: {
        Input twice = input;
        send_datagram(Side::primary, input);
        return send_datagram(Side::secondary, twice);
      }
      case 11: {
        const auto side = (operation & 0x10) != 0 ? Side::primary : Side::secondary;
        return send_raw(side, input.next(input.next()));
      }
      case 12:
        return pass_time(std::chrono::milliseconds(operation >> 4) * 10);
      case 13:
        comparer_.secondary_entered(now_);
        return;
      case 14:
        end_epoch();
        if ((operation & 0x10) == 0) return;
        comparer_.forget_flows();
        model_.forget();
        require(comparer_.flows() == 0, "flows are left");
        return;
      default:
        return to_guest(input);
    }
  }

  Segment read_segment(Input& input) {
    Segment segment;
    const std::uint8_t what = input.next();
    segment.flow = what & 3;
    segment.flags = tcp_flag::ack;
    if ((what & 0x0c) == 0x0c) segment.flags |= tcp_flag::fin;
    if ((what & 0x30) == 0x30) segment.flags |= tcp_flag::psh;
    if ((what & 0xfc) == 0xc0) segment.flags |= tcp_flag::rst;
    if ((what & 0xfc) == 0xc4) segment.flags = tcp_flag::rst;
    if ((what & 0xfc) == 0x80) segment.flags ^= tcp_flag::ack;
    segment.position = input.next() * 4u;
    const std::uint8_t size = input.next();
    for (std::uint32_t i = 0; i < size; ++i) {
      segment.payload += static_cast<char>((segment.position + i) * 7 + segment.flow);
    }
    segment.ack = input.next() * 16u;
    segment.shape = input.next();
    if ((segment.shape & 0xe0) == 0xe0 && size != 0) segment.payload[size / 2] ^= 1;
    return segment;
  }

  std::uint32_t initial_sequence(Side side, std::uint8_t flow) const {
    const auto generation = generation_[side == Side::primary ? 0 : 1][flow];
    // The second one wraps soon. Connections opened under the comparer's eyes have their own
    // numbers on each side, if there is a translator.
    const std::uint32_t sequence = (flow == 1 ? 0xffff'ff00u : 1000u) + (generation << 24);
    const bool own = translated_ && side == Side::secondary && generation != loaded_[flow];
    return own ? sequence + 0x1234'5678u + flow : sequence;
  }

  test::Link link_of(std::uint8_t flow, std::uint8_t shape) const {
    test::Link link;
    if (flow == 2) {
      link.source = "fd00::2";
      link.destination = "fd00::1";
    }
    if (flow == 3) link.vlans = {9};
    link.checksum = (shape & 1) != 0 ? test::Checksum::partial : test::Checksum::complete;
    link.ip_id = shape;
    link.padding = (shape & 2) != 0 ? 6 : 0;
    return link;
  }

  void send(Side side, const Segment& segment) {
    test::Tcp tcp;
    tcp.destination_port = static_cast<std::uint16_t>(40000 + segment.flow);
    const bool syn = (segment.flags & tcp_flag::syn) != 0;
    tcp.seq = initial_sequence(side, segment.flow) + segment.position + (syn ? 0 : 1);
    tcp.ack = (segment.flags & tcp_flag::ack) != 0 ? 0xffff'ff80u + segment.ack : 0;
    tcp.flags = segment.flags;
    tcp.payload = segment.payload;
    if ((segment.shape & 4) != 0) {
      tcp.options = syn ? test::syn_options(ticks_) : test::timestamp_option(ticks_, segment.ack);
    }
    if ((segment.shape & 8) != 0) tcp.gso_size = 50;
    feed(side, test::tcp(tcp, link_of(segment.flow, segment.shape)));
  }

  void open(Side side, std::uint8_t flow) {
    auto& generation = generation_[side == Side::primary ? 0 : 1][flow];
    if (generation >= 100) return;
    ++generation;
    Segment segment;
    segment.flow = flow;
    segment.flags = tcp_flag::syn | tcp_flag::ack;
    segment.ack = 0;
    segment.shape = 4;
    send(side, segment);
  }

  void send_datagram(Side side, Input& input) {
    const std::uint8_t what = input.next();
    const std::uint8_t size = input.next() & 0x3f;
    const std::string payload = test::pattern(size, what & 3);
    const auto link = link_of(what >> 2 & 3, what >> 4 & 3);
    switch (what >> 6 & 3) {
      case 0:
        return feed(side, test::udp({.payload = payload}, link));
      case 1:
        return feed(side, test::icmp({.payload = payload}, link));
      case 2:
        return feed(side, test::fragment(17, (what & 1) != 0 ? 8 : 0, true, payload, link));
      default:
        return feed(side, (what & 1) != 0 ? test::arp(false, link) : test::ip(47, payload, link));
    }
  }

  void send_raw(Side side, const Bytes& content) {
    Bytes frame;
    test::put32(frame, static_cast<std::uint32_t>(content.size()));
    test::put32(frame, 0);
    frame += content;
    model_.run_wild(frame);
    feed(side, frame);
  }

  void feed(Side side, const Bytes& frame) {
    if (side == Side::secondary) return feed_secondary(frame);
    const auto dropped = comparer_.counters().dropped_frames;
    model_.primary_sends(frame);
    comparer_.primary(frame, now_);
    if (comparer_.counters().dropped_frames != dropped) model_.dropped();
    take_released();
    const auto references = comparer_.take_references();
    Bytes out;
    translator_.reference(references.bytes, out, now_);
    require(test::split(references.bytes).size() == references.count, "number of references");
    give_to_comparer(out);
  }

  void feed_secondary(const Bytes& frame) {
    Bytes out;
    translator_.from_guest(frame, out, now_);
    const auto frames = test::split(out);
    require(frames.size() <= 1, "the translator made frames");
    if (translator_.idle()) require(out == frame, "an idle translator changed a frame");
    for (const auto& translated : frames) {
      require(translated.size() == frame.size(), "a frame of another size");
    }
    give_to_comparer(out);
  }

  void give_to_comparer(const Bytes& frames) {
    for (const auto& frame : test::split(frames)) {
      model_.secondary_sends(frame);
      comparer_.secondary(frame, now_);
      take_released();
    }
  }

  void take_released() {
    const auto released = comparer_.take_released();
    const auto frames = test::split(released.bytes);
    require(frames.size() == released.count, "number of released frames");
    for (const auto& frame : frames) model_.leaves(frame, true);
  }

  /// A client's segment for the secondary VM.
  void to_guest(Input& input) {
    Segment segment = read_segment(input);
    test::Tcp tcp = test::reversed(
        test::Tcp{.destination_port = static_cast<std::uint16_t>(40000 + segment.flow)});
    tcp.seq = 0xffff'ff80u + segment.position;
    tcp.ack = initial_sequence(Side::primary, segment.flow) + segment.ack;
    tcp.flags = segment.flags;
    if ((segment.shape & 4) != 0) {
      tcp.options =
          test::timestamp_option(1, ticks_) + test::sack_option({{tcp.ack, tcp.ack + 100}});
    }
    tcp.payload = segment.payload;
    const Bytes frame = test::tcp(tcp, test::reversed(link_of(segment.flow, segment.shape)));
    Bytes out;
    translator_.to_guest(frame, out, now_);
    const auto frames = test::split(out);
    require(frames.size() == 1 && frames.front().size() == frame.size(), "a frame for the guest");
    require(test::reference_errors(frames.front()).empty(), "a wrong frame for the guest");
  }

  void pass_time(std::chrono::milliseconds time) {
    now_ += time;
    ++ticks_;
    comparer_.tick(now_);
    const auto due = comparer_.next_deadline();
    require(!due || *due > now_, "something due was not found");
    translator_.sweep(now_);
  }

  void end_epoch() {
    const Frames rest = comparer_.close_epoch();
    const auto frames = test::split(rest.bytes);
    require(frames.size() == rest.count, "number of committed frames");
    for (const auto& frame : frames) model_.leaves(frame, false);
    model_.epoch_ends();
    require(comparer_.waiting_frames() == 0 && comparer_.waiting_bytes() == 0,
            "something waits on");
    require(!comparer_.next_deadline(), "something is due in an empty epoch");
    mismatch_taken_ = false;
    // The secondary VM loads what the primary VM is, and the translator what is known of it.
    const auto table = translator_.table();
    const auto decoded = decode_translations(encode(table));
    require(decoded && *decoded == table, "the table of translations");
    generation_[1] = generation_[0];
    loaded_ = generation_[0];
    translator_.reset({});
    translator_.learn(false);
    translator_.learn(translated_);
  }

  void check() {
    const CompareCounters& counters = comparer_.counters();
    require(counters.primary_frames + counters.split_frames + counters.made_acknowledgements ==
                counters.released_frames + counters.committed_frames + counters.dropped_frames +
                    comparer_.waiting_frames(),
            "the counters do not add up");
    if (const auto mismatch = comparer_.take_mismatch()) {
      require(!mismatch_taken_, "a second difference in an epoch");
      require(counters.mismatches.at(static_cast<std::size_t>(mismatch->reason)) != 0,
              "a difference that was not counted");
      mismatch_taken_ = true;
    }
    require(translator_.size() == translator_.table().size(), "the translator's size");
  }

  Model model_;
  Comparer comparer_;
  Translator translator_;
  bool translated_;
  bool mismatch_taken_ = false;
  Time now_{};
  std::uint32_t ticks_ = 100;
  /// How many times each flow has been opened anew, by the primary and by the secondary VM.
  std::array<std::array<std::uint32_t, 4>, 2> generation_{};
  std::array<std::uint32_t, 4> loaded_{};  ///< what the newest checkpoint contains
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(std::as_bytes(std::span(data, size)));
  World world(input.next());
  world.run(input);
  return 0;
}
