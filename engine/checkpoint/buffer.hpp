// Memory for whole checkpoints: contiguous, reserved once, kept warm from one checkpoint to the
// next.
//
// A fresh 35 MB costs thousands of page faults, which would be part of the primary's pause; so a
// buffer is mapped once at the largest size a checkpoint may have, gets memory only where it is
// written, and keeps it. What a rare large checkpoint has touched is given back once it has not
// been needed for a while.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/error.hpp"

namespace tandem::checkpoint {

class Buffer {
 public:
  /// Reserves address space, not memory. Errc::limit if the system refuses that much.
  static Result<std::unique_ptr<Buffer>> create(std::size_t capacity);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  /// What may still be written behind the content.
  [[nodiscard]] std::span<std::byte> tail() noexcept { return {data_ + size_, capacity_ - size_}; }
  /// `n` bytes of tail() have been written and are content now.
  void extend(std::size_t n) noexcept;
  /// Forgets the content.
  void clear() noexcept;
  /// The most bytes that may be resident: the highest end of content since memory was last given
  /// back.
  [[nodiscard]] std::size_t resident() const noexcept { return touched_; }

 private:
  Buffer(std::byte* data, std::size_t capacity) : data_(data), capacity_(capacity) {}

  std::byte* data_;
  std::size_t capacity_;
  std::size_t size_ = 0;
  std::size_t touched_ = 0;      ///< memory below this may be resident
  std::size_t recent_peak_ = 0;  ///< largest content in the present period
  unsigned clears_in_period_ = 0;
};

/// Lends out at most a fixed number of buffers.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  struct Return {
    std::shared_ptr<BufferPool> pool;
    void operator()(Buffer* buffer) const;
  };
  using Lease = std::unique_ptr<Buffer, Return>;

  static Result<std::shared_ptr<BufferPool>> create(std::size_t buffers, std::size_t capacity);

  /// A cleared buffer, or an empty lease if all are lent out. Returned buffers are lent again
  /// first.
  Lease take();
  [[nodiscard]] std::size_t available() const noexcept { return free_.size(); }

 private:
  BufferPool() = default;
  std::vector<std::unique_ptr<Buffer>> free_;
};

}  // namespace tandem::checkpoint
