#include "engine/checkpoint/buffer.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

namespace tandem::checkpoint {
namespace {

constexpr std::size_t huge_page = 2u << 20;
// Memory above the largest of this many checkpoints is given back: at four a second, half a minute.
constexpr unsigned clears_a_period = 128;

constexpr std::size_t round_up(std::size_t n, std::size_t to) {
  return (n + to - 1) / to * to;
}

}  // namespace

Result<std::unique_ptr<Buffer>> Buffer::create(std::size_t capacity) {
  const auto size = round_up(std::max<std::size_t>(capacity, 1), huge_page);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return Error{Errc::limit, "cannot reserve " + std::to_string(size) +
                                  " bytes of address space for a checkpoint"};
  }
  // Fewer faults and TLB misses; where the kernel has no huge pages nothing is lost.
  madvise(data, size, MADV_HUGEPAGE);
  return std::unique_ptr<Buffer>(new Buffer(static_cast<std::byte*>(data), size));
}

Buffer::~Buffer() {
  munmap(data_, capacity_);
}

void Buffer::extend(std::size_t n) noexcept {
  assert(n <= capacity_ - size_);
  size_ += n;
}

void Buffer::clear() noexcept {
  touched_ = std::max(touched_, size_);
  recent_peak_ = std::max(recent_peak_, size_);
  size_ = 0;
  if (++clears_in_period_ < clears_a_period) return;
  const auto keep = round_up(recent_peak_, huge_page);
  if (touched_ > keep) {
    madvise(data_ + keep, round_up(touched_, huge_page) - keep, MADV_DONTNEED);
    touched_ = recent_peak_;
  }
  clears_in_period_ = 0;
  recent_peak_ = 0;
}

Result<std::shared_ptr<BufferPool>> BufferPool::create(std::size_t buffers, std::size_t capacity) {
  std::shared_ptr<BufferPool> pool(new BufferPool);
  for (std::size_t i = 0; i < buffers; ++i) {
    auto buffer = Buffer::create(capacity);
    if (!buffer) return buffer.error();
    pool->free_.push_back(std::move(*buffer));
  }
  return pool;
}

BufferPool::Lease BufferPool::take() {
  if (free_.empty()) return Lease(nullptr, Return{});
  auto buffer = std::move(free_.back());
  free_.pop_back();
  return Lease(buffer.release(), Return{shared_from_this()});
}

void BufferPool::Return::operator()(Buffer* buffer) const {
  buffer->clear();
  pool->free_.emplace_back(buffer);
}

}  // namespace tandem::checkpoint
