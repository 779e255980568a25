// The output gate: holds what a VM sends until the checkpoint that contains the sending is
// committed (output commit, rule R2), and gives it back in order.
//
// Pure: bytes of QEMU's capture chardev go in, bytes for its inject chardev come out, in the same
// framing and unchanged. Nothing is dropped without being counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "base/error.hpp"

namespace tandem::proxy {

struct GateLimits {
  std::size_t held_bytes_soft = 4u << 20;   ///< beyond: wants_checkpoint()
  std::size_t held_bytes_hard = 16u << 20;  ///< held and not yet written: beyond, new frames are
                                            ///< dropped and counted
};

struct GateCounters {
  std::uint64_t captured_frames = 0;
  std::uint64_t released_frames = 0;
  std::uint64_t dropped_frames =
      0;  ///< over the hard limit; the network may lose packets, TCP repeats
  std::uint64_t drained_frames = 0;  ///< captured by the last look at an epoch's end (R3)
};

class OutputGate {
 public:
  explicit OutputGate(GateLimits limits = {}) : limits_(limits) {}

  /// Bytes from the capture chardev, cut anywhere. While the gate is open they go straight to the
  /// outbox, else into the current epoch. Errc::protocol if they are not framed packets.
  Result<void> capture(std::span<const std::byte> bytes);

  /// From now on frames are held; what was captured before may leave.
  void hold();
  /// All held frames leave, in order, and later ones pass at once.
  void open();
  /// All held frames are forgotten: the VM's state that sent them is given up.
  void discard();

  /// Everything captured so far belongs to epoch `epoch` or an earlier one.
  void close_epoch(std::uint64_t epoch);
  /// Epochs up to and with `epoch` may leave.
  void release_through(std::uint64_t epoch);

  /// What waits to be written to the inject chardev; consume() what has been written.
  [[nodiscard]] std::span<const std::byte> outbox() const noexcept;
  void consume(std::size_t n);

  /// A frame has begun and not ended.
  [[nodiscard]] bool mid_frame() const noexcept { return !partial_.empty(); }
  [[nodiscard]] bool wants_checkpoint() const noexcept {
    return held_bytes_ > limits_.held_bytes_soft;
  }
  [[nodiscard]] bool is_open() const noexcept { return open_; }
  [[nodiscard]] std::size_t held_bytes() const noexcept { return held_bytes_; }
  [[nodiscard]] std::size_t held_frames() const noexcept { return held_frames_; }
  [[nodiscard]] const GateCounters& counters() const noexcept { return counters_; }
  void count_drained(std::uint64_t frames) noexcept { counters_.drained_frames += frames; }

 private:
  struct Batch {
    std::uint64_t epoch = 0;
    std::size_t frames = 0;
    std::vector<std::byte> bytes;
  };
  void accept(std::span<const std::byte> frames, std::size_t count);
  void release(Batch batch);
  void send_out(std::vector<std::byte> bytes, std::size_t frames);

  GateLimits limits_;
  bool open_ = true;
  std::vector<std::byte> partial_;  ///< the beginning of a frame whose end has not come yet
  Batch current_;
  std::deque<Batch> closed_;
  std::deque<std::vector<std::byte>> outbox_;
  std::size_t outbox_offset_ = 0;  ///< of the first entry, already written
  std::size_t outbox_bytes_ = 0;
  std::size_t held_bytes_ = 0;
  std::size_t held_frames_ = 0;
  GateCounters counters_;
};

}  // namespace tandem::proxy
