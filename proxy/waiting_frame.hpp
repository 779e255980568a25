// Frames that wait in the comparer: where they are kept, and in which orders they are found.
//
// A frame waits in two lists at once, both intrusive: that of its side, in the order of capture,
// and a queue of its flow. Memory is recycled; in steady state nothing is allocated.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "proxy/packet.hpp"

namespace tandem::proxy {

struct Flow;

/// One frame, or what is left of it; also used, unqueued, for the frame that is just being looked
/// at. Of the secondary VM's TCP segments only the payload is kept.
struct WaitingFrame {
  using Time = std::chrono::steady_clock::time_point;

  WaitingFrame* older = nullptr;  ///< of its side, in order of capture
  WaitingFrame* newer = nullptr;
  WaitingFrame* previous = nullptr;  ///< in its flow's queue
  WaitingFrame* next = nullptr;
  Flow* flow = nullptr;  ///< none: it could not be parsed, or its flow has no room
  const std::byte* bytes = nullptr;
  Time arrived{};
  std::uint64_t serial = 0;  ///< grows with each frame captured
  /// TCP: stream positions of its first sequence number, and behind its last one.
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint32_t size = 0;
  std::uint32_t left = 0;  ///< payload bytes that have left already
  std::uint16_t size_class = 0;
  bool stored = false;  ///< the bytes are in the pool, and not in somebody's input
  bool owed = false;    ///< an acknowledgement that was made here, not one of the VM's frames
  bool traced = false;  ///< its fate has been told
  Packet packet;

  [[nodiscard]] std::span<const std::byte> frame() const noexcept { return {bytes, size}; }
  [[nodiscard]] std::span<const std::byte> payload() const noexcept {
    return {bytes + packet.payload, packet.payload_size};
  }
  /// The stream position of the payload's first byte.
  [[nodiscard]] std::uint64_t payload_start() const noexcept {
    return start + (packet.has(tcp_flag::syn) ? 1u : 0u);
  }
};

/// A flow's queue. Owns nothing.
class FrameQueue {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] WaitingFrame* front() const noexcept { return first_; }
  [[nodiscard]] WaitingFrame* back() const noexcept { return last_; }

  void push_back(WaitingFrame& frame) noexcept { insert_behind(last_, frame); }
  /// Behind `place`; nullptr: at the front.
  void insert_behind(WaitingFrame* place, WaitingFrame& frame) noexcept {
    frame.previous = place;
    frame.next = place ? place->next : first_;
    (frame.previous ? frame.previous->next : first_) = &frame;
    (frame.next ? frame.next->previous : last_) = &frame;
  }
  void remove(WaitingFrame& frame) noexcept {
    (frame.previous ? frame.previous->next : first_) = frame.next;
    (frame.next ? frame.next->previous : last_) = frame.previous;
    frame.previous = frame.next = nullptr;
  }

 private:
  WaitingFrame* first_ = nullptr;
  WaitingFrame* last_ = nullptr;
};

/// All that waits of one VM, oldest first. Owns nothing.
class CaptureOrder {
 public:
  [[nodiscard]] bool empty() const noexcept { return oldest_ == nullptr; }
  [[nodiscard]] WaitingFrame* oldest() const noexcept { return oldest_; }

  void push_back(WaitingFrame& frame) noexcept {
    frame.older = newest_;
    frame.newer = nullptr;
    (newest_ ? newest_->newer : oldest_) = &frame;
    newest_ = &frame;
    if (!due_) due_ = &frame;
  }
  /// `place` is in the list.
  void insert_before(WaitingFrame& place, WaitingFrame& frame) noexcept {
    frame.older = place.older;
    frame.newer = &place;
    (frame.older ? frame.older->newer : oldest_) = &frame;
    place.older = &frame;
    if (due_ == &place) due_ = &frame;
  }
  void remove(WaitingFrame& frame) noexcept {
    if (due_ == &frame) due_ = frame.newer;
    (frame.older ? frame.older->newer : oldest_) = frame.newer;
    (frame.newer ? frame.newer->older : newest_) = frame.older;
    frame.older = frame.newer = nullptr;
  }

  /// The oldest frame that anybody still waits for. `settled` says which ones nobody does; it must
  /// not change its mind about a frame, since each is asked about once only.
  template <typename Settled>
  WaitingFrame* due(Settled settled) noexcept {
    while (due_ && settled(*due_)) due_ = due_->newer;
    return due_;
  }

 private:
  WaitingFrame* oldest_ = nullptr;
  WaitingFrame* newest_ = nullptr;
  WaitingFrame* due_ = nullptr;  ///< all before it are settled
};

/// Memory for frames. What is given back is kept for the next one, up to a limit.
class FramePool {
 public:
  explicit FramePool(std::size_t kept_bytes_max) : kept_bytes_max_(kept_bytes_max) {}
  ~FramePool();
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  /// A copy of `frame`, in no list, that holds a copy of `bytes`.
  WaitingFrame* take(const WaitingFrame& frame, std::span<const std::byte> bytes);
  void give(WaitingFrame* frame) noexcept;

 private:
  /// Steps of 64 bytes up to 1 KiB, from there four steps a doubling: at most a quarter is wasted.
  static constexpr std::size_t step = 64, fine_classes = 16, classes = 16 + 4 * 8;
  static std::size_t class_of(std::size_t size) noexcept;
  static std::size_t size_of(std::size_t size_class) noexcept;

  std::size_t kept_bytes_max_;
  std::size_t kept_bytes_ = 0;
  std::array<WaitingFrame*, classes> kept_{};
};

}  // namespace tandem::proxy
