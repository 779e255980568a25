// Compares TCP as byte streams. Decides, for each flow, how far the primary VM's stream, its
// acknowledgements and its SYN, FIN and RST may leave.
//
// What the primary VM sends waits in capture order; the secondary VM's payload waits by stream
// position. Whichever VM is behind, its segment is compared with what waits of the other one, and
// is itself not stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proxy/compare_state.hpp"

namespace tandem::proxy {

class TcpCompare {
 public:
  explicit TcpCompare(CompareState& state) : state_(state) {}

  void primary(Flow& flow, WaitingFrame& segment);
  void secondary(Flow& flow, WaitingFrame& segment);
  /// Lets the matched parts of segments leave that have not been matched whole. To be called when
  /// all input at hand has been dealt with: fewer and larger pieces.
  void flush();

  /// What has not left of a segment does so with the commit: it is appended to `out`, and the flow
  /// has been released up to what the segment contains.
  static void commit(Flow& flow, const WaitingFrame& segment, Frames& out);
  /// What waits, and where, for people.
  static std::string describe(Comparer::Side side, const WaitingFrame& segment);

 private:
  using Side = Comparer::Side;
  enum class Step { left, waits };
  enum class Match { all, part, differs };
  /// What the secondary VM has sent at some stream position.
  struct Theirs {
    std::span<const std::byte> bytes;
    bool fin = false;  ///< the stream ends here (and there are no bytes)
  };

  void primary_syn(Flow& flow, WaitingFrame& segment);
  void primary_reset(Flow& flow, WaitingFrame& segment);
  void primary_ack(Flow& flow, WaitingFrame& segment);
  void primary_data(Flow& flow, WaitingFrame& segment);
  /// Lets it leave if it may, else keeps it.
  void take_turn(Flow& flow, WaitingFrame& segment);
  void enqueue(Flow& flow, WaitingFrame& segment);

  void secondary_syn(Flow& flow, WaitingFrame& segment);
  void secondary_reset(Flow& flow, WaitingFrame& segment);
  void secondary_data(Flow& flow, WaitingFrame& segment);
  void store(Flow& flow, const WaitingFrame& segment);
  void ignore(const WaitingFrame& segment, std::string_view why);

  /// Lets what waits leave, as far as it may. `incoming`: the secondary VM's newest segment, which
  /// is not stored yet.
  void drain(Flow& flow, const WaitingFrame* incoming);
  static WaitingFrame* next_ready(const Flow& flow);
  Step step(Flow& flow, WaitingFrame& segment, const WaitingFrame* incoming);
  Step step_syn(Flow& flow, WaitingFrame& segment);
  Step step_reset(Flow& flow, WaitingFrame& segment);
  Step step_stream(Flow& flow, WaitingFrame& segment, const WaitingFrame* incoming);
  Match match(Flow& flow, WaitingFrame& segment, const WaitingFrame* incoming);
  static Theirs theirs_at(const Flow& flow, const WaitingFrame* incoming);
  static std::size_t own_agreement(const Flow& flow, const WaitingFrame& segment, std::size_t size);
  void drop_stored(Flow& flow, std::uint64_t end);
  void drop_released(Flow& flow) { drop_stored(flow, flow.released); }

  /// Payload up to `to` leaves; with all that is left of the segment, if `rest`.
  void leave(Flow& flow, WaitingFrame& segment, std::uint32_t to, bool rest);
  void leave_matched(Flow& flow, WaitingFrame& segment);
  void leave_acks(Flow& flow, std::uint64_t before_serial);
  void leave_ack(Flow& flow, WaitingFrame& segment);
  void leave_acks_in_part(Flow& flow);
  void leave_all_acks(Flow& flow);
  void remove(FrameQueue& queue, WaitingFrame& segment);
  static void note_overtaking(const Flow& flow, const WaitingFrame& segment);
  static void note_timestamp(const Flow& flow, std::span<const std::byte> frame,
                             const Packet& packet);
  static void renew_timestamp(const Flow& flow, const Packet& packet, std::span<std::byte> out);

  void acknowledged(Flow& flow, std::uint32_t ack);
  void owe(Flow& flow, const WaitingFrame& segment);
  void forgive(Flow& flow);
  static std::optional<std::uint32_t> ack_limit(const Flow& flow);

  template <typename Detail>
  void differs(Flow& flow, Reason reason, std::uint64_t position, Detail detail);
  void block(Flow& flow);

  CompareState& state_;
  std::vector<std::byte> scratch_;
  std::vector<Flow*> partial_;  ///< flows with a segment matched further than it has left
};

}  // namespace tandem::proxy
