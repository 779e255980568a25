// Bytes that wait to be written to a socket: appended in any pieces, consumed in any others.
#pragma once

#include <cassert>
#include <cstddef>
#include <deque>
#include <span>
#include <vector>

namespace tandem::proxy {

class ByteQueue {
 public:
  void append(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    size_ += bytes.size();
    // Small pieces share a block, so that one write takes many of them.
    if (blocks_.empty() || blocks_.back().size() + bytes.size() > block_size) {
      blocks_.emplace_back().reserve(block_size);
    }
    blocks_.back().insert(blocks_.back().end(), bytes.begin(), bytes.end());
  }

  /// The next bytes, not all of them; empty if there are none. consume() what has been written.
  [[nodiscard]] std::span<const std::byte> front() const noexcept {
    if (blocks_.empty()) return {};
    return std::span<const std::byte>(blocks_.front()).subspan(offset_);
  }

  void consume(std::size_t n) {
    assert(!blocks_.empty() && n <= blocks_.front().size() - offset_);
    offset_ += n;
    size_ -= n;
    if (offset_ < blocks_.front().size()) return;
    blocks_.pop_front();
    offset_ = 0;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

 private:
  static constexpr std::size_t block_size = 64u << 10;
  std::deque<std::vector<std::byte>> blocks_;
  std::size_t offset_ = 0;  ///< of the first block, already written
  std::size_t size_ = 0;
};

}  // namespace tandem::proxy
