#include "proxy/translator.hpp"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/big_endian.hpp"
#include "proxy/chardev_framing.hpp"

namespace tandem::proxy {
namespace {

constexpr std::uint8_t protocol_tcp = 6;

using Frame = std::span<const std::byte>;

/// Cuts the first frame off `frames`. What is no frame comes as one piece: all that is left.
Frame take_frame(Frame& frames) noexcept {
  std::size_t size = frames.size();
  if (size >= frame_prefix_size) {
    size = std::min(size, frame_prefix_size + load_be<std::uint32_t>(frames.data()));
  }
  const auto frame = frames.first(size);
  frames = frames.subspan(size);
  return frame;
}

void append(std::vector<std::byte>& out, Frame bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

bool is_syn(const Packet& packet) noexcept {
  return packet.kind == Kind::tcp && packet.has(tcp_flag::syn) && !packet.has(tcp_flag::rst);
}

/// How a VM opens its end of a connection.
struct Syn {
  std::uint32_t seq = 0;
  std::optional<std::uint32_t> timestamp;
  bool asks = false;  ///< it was sent as a SYN
  /// It was sent as a SYN-ACK: what that acknowledges, which tells whose SYN it answers.
  std::optional<std::uint32_t> answers;
};

Syn read_syn(Frame frame, const Packet& packet) noexcept {
  Syn syn;
  syn.seq = packet.seq;
  if (const auto stamps = timestamps(frame, packet)) syn.timestamp = stamps->value;
  if (packet.has(tcp_flag::ack)) {
    syn.answers = packet.ack;
  } else {
    syn.asks = true;
  }
  return syn;
}

// ---- The encoded table: be16 magic and version, be32 count; then for each connection the guest's
// address [16], the peer's [16], be16 guest's port, peer's port and VLAN, be32 sequence and
// timestamp.
constexpr std::uint16_t table_magic = 0x5401;
constexpr std::size_t table_header_size = 6;
constexpr std::size_t record_size = 46;
static_assert(encoded_translations_max == table_header_size + translations_max * record_size);

void encode(const Translation& translation, std::byte* to) {
  const auto& flow = translation.flow;
  to = std::ranges::copy(flow.guest, to).out;
  to = std::ranges::copy(flow.peer, to).out;
  store_be(to, flow.guest_port);
  store_be(to + 2, flow.peer_port);
  store_be(to + 4, flow.vlan);
  store_be(to + 6, translation.offsets.sequence);
  store_be(to + 10, translation.offsets.timestamp);
}

Translation decode_record(const std::byte* from) {
  Translation translation;
  auto& flow = translation.flow;
  flow.kind = Kind::tcp;
  flow.protocol = protocol_tcp;
  std::copy_n(from, flow.guest.size(), flow.guest.begin());
  std::copy_n(from + 16, flow.peer.size(), flow.peer.begin());
  flow.guest_port = load_be<std::uint16_t>(from + 32);
  flow.peer_port = load_be<std::uint16_t>(from + 34);
  flow.vlan = load_be<std::uint16_t>(from + 36);
  translation.offsets.sequence = load_be<std::uint32_t>(from + 38);
  translation.offsets.timestamp = load_be<std::uint32_t>(from + 42);
  return translation;
}

Error malformed_table(const std::string& what) {
  return {Errc::protocol, "the table of translated connections " + what};
}

}  // namespace

std::vector<std::byte> encode(const TranslationTable& table) {
  assert(table.size() <= translations_max);
  std::vector<std::byte> bytes(table_header_size + table.size() * record_size);
  store_be(bytes.data(), table_magic);
  store_be(bytes.data() + 2, static_cast<std::uint32_t>(table.size()));
  auto* to = bytes.data() + table_header_size;
  for (const auto& translation : table) {
    encode(translation, to);
    to += record_size;
  }
  return bytes;
}

Result<TranslationTable> decode_translations(std::span<const std::byte> bytes) {
  if (bytes.size() < table_header_size) {
    return malformed_table("ends inside its header, after " + std::to_string(bytes.size()) +
                           " of " + std::to_string(table_header_size) + " bytes");
  }
  const auto magic = load_be<std::uint16_t>(bytes.data());
  if (magic != table_magic) {
    return malformed_table("begins with " + std::to_string(magic) + "; expected " +
                           std::to_string(table_magic));
  }
  const std::size_t count = load_be<std::uint32_t>(bytes.data() + 2);
  if (count > translations_max) {
    return Error{Errc::limit, "the table of translated connections has " + std::to_string(count) +
                                  " entries; at most " + std::to_string(translations_max) +
                                  " are accepted"};
  }
  if (bytes.size() != table_header_size + count * record_size) {
    return malformed_table("has " + std::to_string(bytes.size()) + " bytes; its " +
                           std::to_string(count) + " entries take " +
                           std::to_string(table_header_size + count * record_size));
  }
  TranslationTable table;
  table.reserve(count);
  std::unordered_set<FlowKey> flows;
  for (std::size_t i = 0; i < count; ++i) {
    auto translation = decode_record(bytes.data() + table_header_size + i * record_size);
    if (translation.offsets == Offsets{}) {
      return malformed_table("has the connection " + to_string(translation.flow) +
                             ", which needs no translation");
    }
    if (!flows.insert(translation.flow).second) {
      return malformed_table("has the connection " + to_string(translation.flow) + " twice");
    }
    table.push_back(std::move(translation));
  }
  return table;
}

class Translator::Impl {
 public:
  void reset(const TranslationTable& table) {
    connections_.clear();
    forget_handshakes();
    ending_ = false;
    for (const auto& translation : table) {
      if (translation.offsets == Offsets{}) continue;
      if (connections_.size() >= translations_max) {
        ++counters_.refused_flows;
        continue;
      }
      connections_.try_emplace(translation.flow, Connection{translation.offsets, {}});
    }
  }

  void learn(bool on) {
    if (!on) forget_handshakes();
    learning_ = on;
  }

  void from_guest(Frame frames, std::vector<std::byte>& out, Time now) {
    if (idle()) return append(out, frames);
    while (!frames.empty()) {
      const auto frame = take_frame(frames);
      Packet packet;
      if (!parse_tcp(frame, Direction::from_guest, packet)) {
        append(out, frame);
      } else if (!is_syn(packet) || guest_syn_may_pass(frame, packet)) {
        pass_from_guest(frame, packet, out, now);
      }
    }
  }

  void to_guest(Frame frames, std::vector<std::byte>& out, Time now) {
    // While nothing is translated, nothing that a client sends needs a look: a SYN-ACK of the VM
    // says itself whose SYN it answers.
    if (connections_.empty()) return append(out, frames);
    while (!frames.empty()) {
      const auto frame = take_frame(frames);
      Packet packet;
      if (!parse_tcp(frame, Direction::to_guest, packet)) {
        append(out, frame);
      } else {
        pass_to_guest(frame, packet, out, now);
      }
    }
  }

  void reference(Frame frames, std::vector<std::byte>& out, Time now) {
    if (!learning_) return;
    while (!frames.empty()) {
      const auto frame = take_frame(frames);
      Packet packet;
      if (!parse_tcp(frame, Direction::from_guest, packet) || !is_syn(packet)) continue;
      auto* handshake = handshake_of(packet.key);
      if (handshake == nullptr) continue;
      if (note_reference(*handshake, read_syn(frame, packet))) connections_.erase(packet.key);
      if (handshake->held && handshake->has_reference_of(handshake->held->syn)) {
        const auto held = take_held(*handshake);
        measure(packet.key, *handshake, held.syn);
        pass_from_guest(held.frame, held.packet, out, now);
      }
    }
  }

  void sweep(Time now) {
    if (!ending_) return;
    ending_ = false;
    std::erase_if(connections_, [&](const auto& entry) {
      const auto& connection = entry.second;
      if (connection.reset) return true;
      if (!connection.closed()) return false;
      if (now - connection.last_fin >= time_wait) return true;
      ending_ = true;
      return false;
    });
  }

  [[nodiscard]] bool idle() const noexcept { return connections_.empty() && !learning_; }

  [[nodiscard]] TranslationTable table() const {
    TranslationTable table;
    table.reserve(connections_.size());
    for (const auto& [flow, connection] : connections_) {
      table.push_back({flow, connection.offsets});
    }
    return table;
  }

  [[nodiscard]] std::size_t size() const noexcept { return connections_.size(); }
  [[nodiscard]] const TranslatorCounters& counters() const noexcept { return counters_; }

 private:
  /// A connection whose numbers differ.
  struct Connection {
    Offsets offsets;
    /// Of the VM, in its own numbers; not known of a connection that came in a table.
    std::optional<std::uint32_t> initial_sequence{};
    bool peer_syn = false;  ///< a client has sent a SYN since this entry was made
    bool reset = false;
    bool guest_fin = false;
    bool peer_fin = false;
    Time last_fin{};

    [[nodiscard]] bool closed() const noexcept { return guest_fin && peer_fin; }
  };

  /// A SYN of the VM that waits for its reference.
  struct Held {
    Syn syn;
    Packet packet;
    std::vector<std::byte> frame;
  };

  /// What is known in this epoch of how a connection began on either host.
  struct Handshake {
    std::optional<Syn> reference;           ///< the primary VM's, in the numbers that clients see
    std::optional<std::uint32_t> measured;  ///< this VM's initial sequence number, once resolved
    std::optional<Held> held;

    /// Whether the reference opens the same connection as this SYN of the VM, which has not been
    /// measured yet. SYN-ACKs name the client's SYN that they answer. A SYN names nothing, so one
    /// reference serves one SYN.
    [[nodiscard]] bool has_reference_of(const Syn& syn) const noexcept {
      if (!reference) return false;
      return syn.answers ? reference->answers == syn.answers : reference->asks && !measured;
    }
  };

  bool parse_tcp(Frame frame, Direction direction, Packet& packet) {
    if (parse(frame, direction, packet) != Malformed::none) {
      ++counters_.unparsable_frames;
      return false;
    }
    return packet.kind == Kind::tcp;
  }

  Connection* find(const FlowKey& flow) {
    const auto found = connections_.find(flow);
    return found != connections_.end() ? &found->second : nullptr;
  }

  /// nullptr if there is no room for another one.
  Handshake* handshake_of(const FlowKey& flow) {
    const auto found = handshakes_.find(flow);
    if (found != handshakes_.end()) return &found->second;
    if (handshakes_.size() >= translations_max) {
      ++counters_.refused_flows;
      return nullptr;
    }
    return &handshakes_[flow];
  }

  void forget_handshakes() {
    handshakes_.clear();
    held_frames_ = 0;
    held_bytes_ = 0;
  }

  /// A SYN or SYN-ACK of the VM: false if it is kept back.
  bool guest_syn_may_pass(Frame frame, const Packet& packet) {
    auto* connection = find(packet.key);
    if (connection != nullptr && connection->initial_sequence == packet.seq) return true;
    if (!learning_) {
      // Without a client's SYN, a SYN-ACK can only be a repetition of one from before the load.
      const bool repeated = connection != nullptr && !connection->initial_sequence &&
                            !connection->peer_syn && packet.has(tcp_flag::ack);
      if (connection != nullptr && !repeated) connections_.erase(packet.key);
      return true;
    }
    // Another number on the same addresses: another connection.
    if (connection != nullptr && connection->initial_sequence) connections_.erase(packet.key);
    auto* handshake = handshake_of(packet.key);
    if (handshake == nullptr || handshake->measured == packet.seq) return true;
    const auto syn = read_syn(frame, packet);
    if (!handshake->has_reference_of(syn)) return !hold(*handshake, {syn, packet, {}}, frame);
    if (handshake->held) take_held(*handshake);
    measure(packet.key, *handshake, syn);
    return true;
  }

  /// Keeps the newest SYN of a flow back. False if there is no room.
  bool hold(Handshake& handshake, Held held, Frame frame) {
    if (handshake.held) {
      // Sent again, it is measured from its first time, as the reference is.
      const auto before = take_held(handshake);
      if (before.syn.seq == held.syn.seq) held.syn.timestamp = before.syn.timestamp;
    }
    if (held_frames_ >= held_frames_max || held_bytes_ + frame.size() > held_bytes_max) {
      ++counters_.refused_flows;
      return false;
    }
    held.frame.assign(frame.begin(), frame.end());
    handshake.held = std::move(held);
    ++held_frames_;
    held_bytes_ += frame.size();
    ++counters_.held_frames;
    return true;
  }

  Held take_held(Handshake& handshake) {
    auto held = std::move(*handshake.held);
    handshake.held.reset();
    --held_frames_;
    held_bytes_ -= held.frame.size();
    return held;
  }

  /// True if it is another connection's than the reference before.
  static bool note_reference(Handshake& handshake, const Syn& syn) {
    auto& reference = handshake.reference;
    if (reference && reference->seq == syn.seq) {
      // Both ends may have opened it at once: then a SYN-ACK follows the SYN.
      if (syn.answers) reference->answers = syn.answers;
      return false;
    }
    const bool another = reference.has_value();
    reference = syn;
    handshake.measured.reset();
    return another;
  }

  /// The connection's offsets are the reference's numbers minus the VM's.
  void measure(const FlowKey& flow, Handshake& handshake, const Syn& syn) {
    handshake.measured = syn.seq;
    Offsets offsets;
    offsets.sequence = handshake.reference->seq - syn.seq;
    if (handshake.reference->timestamp && syn.timestamp) {
      offsets.timestamp = *handshake.reference->timestamp - *syn.timestamp;
    }
    connections_.erase(flow);
    if (offsets == Offsets{}) return;
    if (connections_.size() >= translations_max) {
      ++counters_.refused_flows;
      return;
    }
    connections_.try_emplace(flow, Connection{offsets, syn.seq});
    ++counters_.learned_flows;
  }

  void pass_from_guest(Frame frame, const Packet& packet, std::vector<std::byte>& out, Time now) {
    append(out, frame);
    auto* connection = find(packet.key);
    if (connection == nullptr) return;
    TcpShift by;
    by.seq = connection->offsets.sequence;
    by.timestamp = connection->offsets.timestamp;
    shift(std::span(out).last(frame.size()), packet, by);
    ++counters_.translated_frames;
    // A guest that goes on sending has not taken the reset.
    connection->reset = packet.has(tcp_flag::rst);
    if (packet.has(tcp_flag::fin)) connection->guest_fin = true;
    note_end(*connection, packet, now);
  }

  void pass_to_guest(Frame frame, const Packet& packet, std::vector<std::byte>& out, Time now) {
    append(out, frame);
    auto* connection = find(packet.key);
    if (connection == nullptr) return;
    if (packet.has(tcp_flag::syn) && !packet.has(tcp_flag::ack)) {
      // A connection that lives answers a stray SYN with a mere acknowledgement: whether this opens
      // another one, the VM's own SYN will tell.
      connection->peer_syn = true;
      if (connection->reset || connection->closed()) connections_.erase(packet.key);
      return;
    }
    const auto& offsets = connection->offsets;
    TcpShift by;
    if (packet.has(tcp_flag::ack)) {
      by.ack = by.sack = 0 - offsets.sequence;
      // An echo of 0 is none.
      const auto stamps = timestamps(frame, packet);
      if (stamps && stamps->echo != 0) by.echo = 0 - offsets.timestamp;
    }
    shift(std::span(out).last(frame.size()), packet, by);
    ++counters_.translated_frames;
    if (packet.has(tcp_flag::rst)) connection->reset = true;
    if (packet.has(tcp_flag::fin)) connection->peer_fin = true;
    note_end(*connection, packet, now);
  }

  void note_end(Connection& connection, const Packet& packet, Time now) {
    // Every FIN starts TIME_WAIT again.
    if (packet.has(tcp_flag::fin)) connection.last_fin = now;
    if (connection.reset || connection.closed()) ending_ = true;
  }

  std::unordered_map<FlowKey, Connection> connections_;
  std::unordered_map<FlowKey, Handshake> handshakes_;
  std::size_t held_frames_ = 0;
  std::size_t held_bytes_ = 0;
  bool learning_ = false;
  bool ending_ = false;  ///< a sweep may find something
  TranslatorCounters counters_;
};

Translator::Translator() : impl_(std::make_unique<Impl>()) {}
Translator::~Translator() = default;
Translator::Translator(Translator&&) noexcept = default;
Translator& Translator::operator=(Translator&&) noexcept = default;

void Translator::reset(const TranslationTable& table) {
  impl_->reset(table);
}
void Translator::learn(bool on) {
  impl_->learn(on);
}
void Translator::from_guest(std::span<const std::byte> frames, std::vector<std::byte>& out,
                            Time now) {
  impl_->from_guest(frames, out, now);
}
void Translator::to_guest(std::span<const std::byte> frames, std::vector<std::byte>& out,
                          Time now) {
  impl_->to_guest(frames, out, now);
}
void Translator::reference(std::span<const std::byte> frames, std::vector<std::byte>& out,
                           Time now) {
  impl_->reference(frames, out, now);
}
void Translator::sweep(Time now) {
  impl_->sweep(now);
}
bool Translator::idle() const noexcept {
  return impl_->idle();
}
TranslationTable Translator::table() const {
  return impl_->table();
}
std::size_t Translator::size() const noexcept {
  return impl_->size();
}
const TranslatorCounters& Translator::counters() const noexcept {
  return impl_->counters();
}

}  // namespace tandem::proxy
