// What the comparison of streams and of datagrams share: flows, frames that wait, frames that may
// leave, and differences found.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "proxy/comparer.hpp"
#include "proxy/flow_table.hpp"
#include "proxy/waiting_frame.hpp"

namespace tandem::proxy {

class CompareState {
 public:
  using Time = Comparer::Time;
  using Side = Comparer::Side;

  explicit CompareState(CompareLimits limits);
  ~CompareState();
  CompareState(const CompareState&) = delete;
  CompareState& operator=(const CompareState&) = delete;

  CompareCounters counters;
  Comparer::Trace trace;

  // ---- Time and epochs

  void set_now(Time now) noexcept { now_ = now; }
  [[nodiscard]] Time now() const noexcept { return now_; }
  void secondary_entered(Time now) noexcept { entered_ = now; }
  /// All that waits is forgotten. No flow may have queues.
  void begin_epoch();
  /// All that waits of the secondary VM is forgotten.
  void forget_secondary();
  /// If a flow found no room in this epoch, those that have been silent in it are forgotten. Their
  /// frames have all left, or leave with the commit. Connections that clients have reset are open
  /// for ever otherwise, since the guest says nothing about their end. No flow may have queues.
  void make_room();
  void refuse_flow() noexcept { refused_ = true; }

  // ---- Flows

  /// The flow of a frame; nullptr: no room.
  Flow* flow_of(Side side, const FlowKey& key);
  FlowQueues& queues(Flow& flow) { return flows.queues(flow); }
  FlowTable flows;

  // ---- What leaves

  /// Where released frames are put. After a frame: count_released().
  std::vector<std::byte>& output(std::size_t size) { return room(released_, size); }
  void count_released() noexcept {
    ++released_.count;
    ++counters.released_frames;
  }
  void release(std::span<const std::byte> frame) {
    append(released_, frame);
    ++counters.released_frames;
  }
  void add_reference(std::span<const std::byte> frame) { append(references_, frame); }
  Frames take_released() { return take(released_, released_hint_); }
  void take_released(Frames& into);
  Frames take_references() { return std::exchange(references_, Frames{}); }
  static void append(Frames& to, std::span<const std::byte> frame);
  /// The bytes of `to`, with room for a frame of up to `size` bytes more.
  static std::vector<std::byte>& room(Frames& to, std::size_t size);

  // ---- What waits

  /// Keeps a copy of `bytes` and of what `frame` says of them, last in the order of capture.
  /// nullptr: over the hard limit; it has been counted as dropped.
  WaitingFrame* keep(Side side, const WaitingFrame& frame, std::span<const std::byte> bytes);
  /// Keeps one of the primary VM's frames that leaves with the commit and not before.
  void hold(Flow& flow, const WaitingFrame& frame) {
    if (keep(Side::primary, frame, frame.frame())) flow.held = true;
  }
  /// A pure acknowledgement that was made here. At most one a flow, so it has no limit of its own.
  /// `instead_of`: the one whose place it takes, if there is one.
  WaitingFrame* keep_owed(const WaitingFrame& frame, std::span<const std::byte> bytes,
                          WaitingFrame* instead_of);
  /// Forgets a frame that is in no queue any more.
  void discard(Side side, WaitingFrame& frame);
  /// `frame` waits as if it had come just now.
  void restart(WaitingFrame& frame);
  /// Of the primary VM, the order of capture.
  [[nodiscard]] WaitingFrame* oldest() const noexcept { return primary_.oldest(); }
  [[nodiscard]] WaitingFrame* oldest_of_secondary() const noexcept { return secondary_.oldest(); }
  [[nodiscard]] std::size_t waiting_bytes() const noexcept { return waiting_bytes_; }
  [[nodiscard]] std::size_t waiting_frames() const noexcept { return waiting_frames_; }

  // ---- What differs

  /// `detail()` makes the text; it is asked only for the first difference of an epoch.
  template <typename Detail>
  void report(Reason reason, const FlowKey& flow, std::uint64_t position, Detail detail) {
    ++counters.mismatches[static_cast<std::size_t>(reason)];
    if (found_) return;
    found_ = true;
    mismatch_ = Mismatch{reason, flow, detail(), position};
  }
  /// The same for a flow, which counts once an epoch.
  template <typename Detail>
  void report(Reason reason, Flow& flow, std::uint64_t position, Detail detail) {
    if (flow.reported) return;
    flow.reported = true;
    report(reason, flow.key, position, std::move(detail));
  }
  std::optional<Mismatch> take_mismatch() { return std::exchange(mismatch_, std::nullopt); }

  /// Reports what has waited too long. `describe(side, frame)` says what it is.
  template <typename Describe>
  void report_timeouts(Describe describe) {
    while (const auto due = next_due()) {
      if (due->deadline > now_) return;
      const auto waited =
          std::chrono::duration_cast<std::chrono::milliseconds>(now_ - due->frame->arrived);
      Flow& flow = *due->frame->flow;
      report(Reason::timeout, flow, shown_position(flow, due->frame->start), [&] {
        return describe(due->side, *due->frame) + " has waited for " +
               std::to_string(waited.count()) + " ms";
      });
    }
  }
  [[nodiscard]] std::optional<Time> next_deadline() const;

  // ---- Traces

  /// `comment()` makes the text; it is asked only if somebody listens.
  template <typename Comment>
  void tell(Side side, std::span<const std::byte> frame, Comment comment) {
    if (trace) trace(side, frame, comment());
  }
  /// The fate of one of the primary VM's frames, which is told once.
  template <typename Comment>
  void tell(WaitingFrame& frame, Comment comment) {
    if (!trace || frame.owed || std::exchange(frame.traced, true)) return;
    trace(Side::primary, frame.frame(), comment());
  }

 private:
  struct Due {
    Side side;
    WaitingFrame* frame;
    Time deadline;
  };
  [[nodiscard]] std::optional<Due> next_due() const;
  [[nodiscard]] Time deadline(Side side, const WaitingFrame& frame) const noexcept;
  [[nodiscard]] CaptureOrder& order(Side side) const noexcept {
    return side == Side::primary ? primary_ : secondary_;
  }
  static Frames take(Frames& from, std::size_t& hint);
  /// What a waiting frame counts; what holds no bytes takes memory, too.
  static std::size_t charge(std::size_t size) noexcept { return std::max(size, charge_min); }
  static constexpr std::size_t charge_min = 64;
  WaitingFrame* add(Side side, const WaitingFrame& frame, std::span<const std::byte> bytes);

  CompareLimits limits_;
  Time now_{};
  std::optional<Time> entered_;
  std::uint32_t epoch_ = 1;
  std::uint64_t serial_ = 0;
  Frames released_;
  Frames references_;
  std::size_t released_hint_ = 0;
  FramePool pool_;
  // Asking for the next deadline skips frames that nobody waits for any more, for good.
  mutable CaptureOrder primary_;
  mutable CaptureOrder secondary_;
  std::size_t waiting_bytes_ = 0;
  std::size_t waiting_frames_ = 0;
  bool found_ = false;
  bool refused_ = false;  ///< a flow found no room in this epoch
  std::optional<Mismatch> mismatch_;
};

/// "3f 22 31 … here, 3f 23 31 … there": what both have from `at` on.
std::string describe_difference(std::span<const std::byte> here, std::span<const std::byte> there,
                                std::size_t at);
/// How many bytes at the beginning of both are equal, of the first `size`.
std::size_t equal_bytes(const std::byte* a, const std::byte* b, std::size_t size) noexcept;

}  // namespace tandem::proxy
