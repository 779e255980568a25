// What clients have sent to the primary VM, on its way to the secondary VM: each packet waits until
// the checkpoint of its epoch is loaded (R4). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include "engine/session/machine.hpp"

namespace tandem::session {

struct InputCounters {
  std::uint64_t mirrored_frames = 0;  ///< came from the primary's clients
  std::uint64_t fed_frames = 0;       ///< given to the secondary VM
  std::uint64_t stale_frames = 0;     ///< their epoch was over: the checkpoint contains them
  std::uint64_t dropped_frames = 0;   ///< no room; a checkpoint was asked for
};

class InputQueue {
 public:
  struct Entry {
    Checkpoint epoch;
    bool reference;  ///< SYN segments of the primary VM, for the translator
    std::size_t nic;
    std::size_t frames;
    std::string payload;  ///< as it came (packet_frame.hpp)
  };

  explicit InputQueue(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  /// False if there is no room; the entry is then dropped and counted.
  bool push(Entry entry) {
    if (!entry.reference) counters_.mirrored_frames += entry.frames;
    if (bytes_ + entry.payload.size() > bytes_max_) {
      counters_.dropped_frames += entry.frames;
      return false;
    }
    bytes_ += entry.payload.size();
    entries_.push_back(std::move(entry));
    return true;
  }

  /// The next one of this epoch, or null; those of former epochs are dropped on the way.
  const Entry* front(Checkpoint epoch) {
    while (!entries_.empty() && entries_.front().epoch < epoch) {
      if (!entries_.front().reference) counters_.stale_frames += entries_.front().frames;
      remove_front();
    }
    return entries_.empty() || entries_.front().epoch != epoch ? nullptr : &entries_.front();
  }

  /// The front has been given to the VM.
  void pop() {
    if (!entries_.front().reference) counters_.fed_frames += entries_.front().frames;
    remove_front();
  }

  [[nodiscard]] const InputCounters& counters() const noexcept { return counters_; }

 private:
  void remove_front() {
    bytes_ -= entries_.front().payload.size();
    entries_.pop_front();
  }

  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::deque<Entry> entries_;
  InputCounters counters_;
};

}  // namespace tandem::session
