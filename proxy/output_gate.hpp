// The output gate: holds what a VM sends until the checkpoint that contains the sending is
// committed (output commit, rule R2), and gives it back in order.
//
// Pure: whole frames of QEMU's capture chardev go in, bytes for its inject chardev come out, in the
// same framing and unchanged. Nothing is dropped without being counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "proxy/byte_queue.hpp"
#include "proxy/chardev_framing.hpp"

namespace tandem::proxy {

struct GateLimits {
  std::size_t held_bytes_soft = 4u << 20;   ///< of one epoch; beyond: wants_checkpoint()
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

  /// Frames that the VM has sent. While the gate is open they go straight to the outbox, else into
  /// the current epoch.
  void capture(FrameSpan frames);
  /// Frames that may leave although their epoch has not been released: the secondary VM has sent
  /// the same. They leave behind what earlier epochs still hold.
  void pass(FrameSpan frames);

  /// From now on frames are held; what was captured before may leave.
  void hold();
  /// All held frames leave, in order, and later ones pass at once.
  void open();

  /// Everything captured so far belongs to epoch `epoch` or an earlier one.
  void close_epoch(std::uint64_t epoch);
  /// Epochs up to and with `epoch` may leave.
  void release_through(std::uint64_t epoch);

  /// What waits to be written to the inject chardev.
  [[nodiscard]] ByteQueue& outbox() noexcept { return outbox_; }

  /// The current epoch holds much. What closed ones hold leaves with checkpoints that have begun.
  [[nodiscard]] bool wants_checkpoint() const noexcept {
    return current_.bytes.size() > limits_.held_bytes_soft;
  }
  [[nodiscard]] bool is_open() const noexcept { return open_; }
  [[nodiscard]] std::size_t held_bytes() const noexcept { return held_bytes_; }
  [[nodiscard]] std::size_t held_frames() const noexcept { return held_frames_; }
  [[nodiscard]] const GateCounters& counters() const noexcept { return counters_; }
  void count_drained(std::uint64_t frames) noexcept { counters_.drained_frames += frames; }
  void forget_counters() noexcept { counters_ = {}; }

 private:
  struct Batch {
    std::uint64_t epoch = 0;
    std::size_t frames = 0;
    std::vector<std::byte> bytes;
    bool empty() const noexcept { return frames == 0; }
  };
  void add(Batch& batch, FrameSpan frames);
  void release(Batch batch);

  GateLimits limits_;
  bool open_ = true;
  Batch current_;
  std::deque<Batch> closed_;
  Batch passed_;  ///< may leave behind closed_
  ByteQueue outbox_;
  std::size_t held_bytes_ = 0;
  std::size_t held_frames_ = 0;
  GateCounters counters_;
};

}  // namespace tandem::proxy
