#include "proxy/output_gate.hpp"

#include <cassert>
#include <utility>

namespace tandem::proxy {

void OutputGate::capture(FrameSpan frames) {
  if (frames.count == 0) return;
  counters_.captured_frames += frames.count;
  if (held_bytes_ + outbox_.size() + frames.bytes.size() > limits_.held_bytes_hard) {
    counters_.dropped_frames += frames.count;
    return;
  }
  if (open_) {
    counters_.released_frames += frames.count;
    outbox_.append(frames.bytes);
    return;
  }
  add(current_, frames);
}

void OutputGate::pass(FrameSpan frames) {
  if (frames.count == 0) return;
  counters_.captured_frames += frames.count;
  if (held_bytes_ + outbox_.size() + frames.bytes.size() > limits_.held_bytes_hard) {
    counters_.dropped_frames += frames.count;
  } else if (!closed_.empty()) {
    add(passed_, frames);
  } else {
    counters_.released_frames += frames.count;
    outbox_.append(frames.bytes);
  }
}

void OutputGate::add(Batch& batch, FrameSpan frames) {
  batch.bytes.insert(batch.bytes.end(), frames.bytes.begin(), frames.bytes.end());
  batch.frames += frames.count;
  held_bytes_ += frames.bytes.size();
  held_frames_ += frames.count;
}

void OutputGate::hold() {
  open_ = false;
}

void OutputGate::open() {
  for (auto& batch : closed_) release(std::move(batch));
  closed_.clear();
  release(std::exchange(passed_, {}));
  release(std::exchange(current_, {}));
  open_ = true;
}

void OutputGate::close_epoch(std::uint64_t epoch) {
  assert(closed_.empty() || closed_.back().epoch < epoch);
  // What may leave behind the epochs before this one leaves with it at the latest, and first.
  if (!passed_.empty()) {
    passed_.epoch = epoch;
    passed_.bytes.insert(passed_.bytes.end(), current_.bytes.begin(), current_.bytes.end());
    passed_.frames += current_.frames;
    current_ = std::exchange(passed_, {});
  }
  current_.epoch = epoch;
  if (!current_.empty()) closed_.push_back(std::move(current_));
  current_ = {};
}

void OutputGate::release_through(std::uint64_t epoch) {
  while (!closed_.empty() && closed_.front().epoch <= epoch) {
    release(std::move(closed_.front()));
    closed_.pop_front();
  }
  if (closed_.empty()) release(std::exchange(passed_, {}));
}

void OutputGate::release(Batch batch) {
  if (batch.empty()) return;
  held_bytes_ -= batch.bytes.size();
  held_frames_ -= batch.frames;
  counters_.released_frames += batch.frames;
  outbox_.append(batch.bytes);
}

}  // namespace tandem::proxy
