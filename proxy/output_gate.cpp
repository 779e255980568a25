#include "proxy/output_gate.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include "proxy/chardev_framing.hpp"

namespace tandem::proxy {

Result<void> OutputGate::capture(std::span<const std::byte> bytes) {
  if (!partial_.empty()) {
    partial_.insert(partial_.end(), bytes.begin(), bytes.end());
    bytes = partial_;
  }
  const auto scan = FrameScanner::scan(bytes);
  if (!scan) return scan.error();
  if (scan->frames > 0) accept(bytes.first(scan->complete), scan->frames);
  const auto rest = bytes.subspan(scan->complete);
  if (partial_.empty()) {
    partial_.assign(rest.begin(), rest.end());
  } else {
    partial_.erase(partial_.begin(),
                   partial_.begin() + static_cast<std::ptrdiff_t>(scan->complete));
  }
  return {};
}

void OutputGate::accept(std::span<const std::byte> frames, std::size_t count) {
  counters_.captured_frames += count;
  if (held_bytes_ + outbox_bytes_ + frames.size() > limits_.held_bytes_hard) {
    counters_.dropped_frames += count;
    return;
  }
  if (open_) {
    send_out({frames.begin(), frames.end()}, count);
    return;
  }
  current_.bytes.insert(current_.bytes.end(), frames.begin(), frames.end());
  current_.frames += count;
  held_bytes_ += frames.size();
  held_frames_ += count;
}

void OutputGate::hold() {
  open_ = false;
}

void OutputGate::open() {
  for (auto& batch : closed_) release(std::move(batch));
  closed_.clear();
  release(std::exchange(current_, {}));
  open_ = true;
}

void OutputGate::discard() {
  counters_.dropped_frames += held_frames_;
  closed_.clear();
  current_ = {};
  held_bytes_ = 0;
  held_frames_ = 0;
}

void OutputGate::close_epoch(std::uint64_t epoch) {
  assert(closed_.empty() || closed_.back().epoch < epoch);
  current_.epoch = epoch;
  if (current_.frames > 0) closed_.push_back(std::move(current_));
  current_ = {};
}

void OutputGate::release_through(std::uint64_t epoch) {
  while (!closed_.empty() && closed_.front().epoch <= epoch) {
    release(std::move(closed_.front()));
    closed_.pop_front();
  }
}

void OutputGate::release(Batch batch) {
  if (batch.frames == 0) return;
  held_bytes_ -= batch.bytes.size();
  held_frames_ -= batch.frames;
  send_out(std::move(batch.bytes), batch.frames);
}

void OutputGate::send_out(std::vector<std::byte> bytes, std::size_t frames) {
  counters_.released_frames += frames;
  outbox_bytes_ += bytes.size();
  outbox_.push_back(std::move(bytes));
}

std::span<const std::byte> OutputGate::outbox() const noexcept {
  if (outbox_.empty()) return {};
  return std::span<const std::byte>(outbox_.front()).subspan(outbox_offset_);
}

void OutputGate::consume(std::size_t n) {
  assert(!outbox_.empty() && n <= outbox_.front().size() - outbox_offset_);
  outbox_offset_ += n;
  outbox_bytes_ -= n;
  if (outbox_offset_ < outbox_.front().size()) return;
  outbox_.pop_front();
  outbox_offset_ = 0;
}

}  // namespace tandem::proxy
