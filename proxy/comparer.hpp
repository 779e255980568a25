// The comparer of COLO mode: what the primary VM sends leaves as soon as the secondary VM has sent
// the same (rule R2), flow by flow; what differs waits for the next checkpoint, and asks for it.
//
// Pure: whole frames of both VMs go in (chardev framing, the secondary's already translated to the
// numbers that clients see), released frames come out, and the time is an argument. TCP is compared
// as byte streams at their sequence numbers: segmentation, retransmission, reordering and overlap
// are invisible. Everything else is compared frame by frame, per flow and in order. A frame that
// cannot be parsed, or whose flow finds no room, waits for the commit.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/packet.hpp"

namespace tandem::proxy {

/// Why a checkpoint is needed.
enum class Reason : std::uint8_t {
  payload,    ///< the same place of a stream or datagram holds different bytes
  length,     ///< a datagram or stream of another length
  event,      ///< SYN, FIN or RST differ, or stand at different positions
  timeout,    ///< one VM has sent what the other has not, for too long
  overflow,   ///< too much waits, or too many flows
  unparsable  ///< the primary VM sent a frame that cannot be parsed
};
inline constexpr std::size_t reason_count = 6;
std::string_view to_string(Reason reason) noexcept;

struct Mismatch {
  Reason reason;
  FlowKey flow;
  std::string detail;  ///< for people: positions, lengths, the first bytes that differ
  /// Of the first difference. TCP: the stream position, counted from the connection's first byte if
  /// its SYN was seen, else the sequence number. Datagrams: the place in the payload.
  std::uint64_t position = 0;
};

struct CompareLimits {
  std::chrono::milliseconds timeout{250};      ///< how long one VM may be ahead of the other
  std::size_t waiting_bytes_soft = 4u << 20;   ///< of both VMs: beyond, Reason::overflow
  std::size_t waiting_bytes_hard = 16u << 20;  ///< beyond, new frames are dropped and counted
  /// Flows remembered. Beyond, closed flows are forgotten, least recently used first; if none is
  /// closed, frames of new flows wait for the commit (Reason::overflow), and at the end of that
  /// epoch the flows that were silent in it are forgotten.
  std::size_t flows_max = 131'072;
};

struct CompareCounters {
  std::uint64_t primary_frames = 0;
  std::uint64_t secondary_frames = 0;
  // primary_frames + split_frames + made_acknowledgements =
  //     released_frames + committed_frames + dropped_frames + waiting_frames()
  std::uint64_t released_frames = 0;  ///< by comparison; pieces of a split frame count one by one
  std::uint64_t split_frames = 0;     ///< each time that a piece has left and the rest has not
  std::uint64_t made_acknowledgements = 0;     ///< sent for ones that could not leave as they were
  std::uint64_t committed_frames = 0;          ///< left to the commit by close_epoch()
  std::uint64_t dropped_frames = 0;            ///< of the primary, over the hard limit
  std::uint64_t secondary_dropped_frames = 0;  ///< of the secondary, over this or another limit
  std::uint64_t secondary_unparsable_frames = 0;  ///< of the secondary: never released, so ignored
  std::uint64_t secondary_forgotten_frames = 0;   ///< unmatched at the end of their epoch
  std::uint64_t compared_bytes = 0;               ///< payload that was equal
  std::uint64_t flows_evicted = 0;                ///< forgotten to make room
  std::array<std::uint64_t, reason_count> mismatches{};  ///< each difference found, by Reason
};

/// Frames in chardev framing, back to back.
struct Frames {
  std::vector<std::byte> bytes;
  std::size_t count = 0;
};

class Comparer {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Side { primary, secondary };
  /// What became of a frame: "released", "split at 1448", "held: …". For traces; the frame is valid
  /// during the call only.
  using Trace =
      std::function<void(Side side, std::span<const std::byte> frame, std::string comment)>;

  explicit Comparer(CompareLimits limits = {});
  ~Comparer();
  Comparer(Comparer&&) noexcept;
  Comparer& operator=(Comparer&&) noexcept;

  /// Whole frames that the primary VM has sent in the current epoch.
  void primary(std::span<const std::byte> frames, Time now);
  /// Whole frames that the secondary VM has sent in the current epoch.
  void secondary(std::span<const std::byte> frames, Time now);
  /// The secondary VM runs in the current epoch from now on: waiting is counted from here, and not
  /// from before.
  void secondary_entered(Time now);

  /// What both have sent, in the order in which it matched, since the last call.
  Frames take_released();
  /// The same, without allocating: the vector that `into` brings is used for what comes next.
  void take_released(Frames& into);
  /// The primary VM's SYN and SYN-ACK segments since the last call, for the peer's translator.
  Frames take_references();

  /// The epoch ends: everything of the primary's that has not been released, in the order in which
  /// it was sent; it leaves on commit. What the secondary has sent is forgotten (R6).
  Frames close_epoch();

  /// Forgets every flow, as if each were seen for the first time. To be called, between epochs,
  /// when the primary VM may have sent what did not pass here: what is remembered of its streams
  /// would be wrong.
  void forget_flows();

  /// Looks for what has waited too long.
  void tick(Time now);
  /// When tick() would find something, unless something changes; nullopt: never.
  [[nodiscard]] std::optional<Time> next_deadline() const;

  /// The first difference of this epoch, once; later ones are only counted.
  std::optional<Mismatch> take_mismatch();

  [[nodiscard]] const CompareCounters& counters() const noexcept;
  [[nodiscard]] std::size_t waiting_bytes() const noexcept;   ///< of both VMs
  [[nodiscard]] std::size_t waiting_frames() const noexcept;  ///< sent by the primary VM
  [[nodiscard]] std::size_t flows() const noexcept;
  void trace(Trace trace);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::proxy
