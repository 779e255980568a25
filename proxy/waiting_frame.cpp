#include "proxy/waiting_frame.hpp"

#include <bit>
#include <cstring>
#include <new>

namespace tandem::proxy {

FramePool::~FramePool() {
  for (WaitingFrame* frame : kept_) {
    while (frame) {
      WaitingFrame* next = frame->next;
      ::operator delete(frame);
      frame = next;
    }
  }
}

std::size_t FramePool::class_of(std::size_t size) noexcept {
  if (size <= step * fine_classes) return (size + step - 1) / step - 1;
  // 1024 < size: the top bit says which doubling, the two bits below it which quarter.
  const std::size_t top = static_cast<std::size_t>(std::bit_width(size - 1)) - 1;
  const std::size_t quarter = (size - 1) >> (top - 2) & 3;
  return fine_classes + (top - 10) * 4 + quarter;
}

std::size_t FramePool::size_of(std::size_t size_class) noexcept {
  if (size_class < fine_classes) return (size_class + 1) * step;
  const std::size_t coarse = size_class - fine_classes;
  return (std::size_t{1024} << coarse / 4) / 4 * (5 + coarse % 4);
}

WaitingFrame* FramePool::take(const WaitingFrame& frame, std::span<const std::byte> bytes) {
  const std::size_t size_class = class_of(sizeof(WaitingFrame) + bytes.size());
  void* memory = kept_[size_class];
  if (memory) {
    kept_[size_class] = kept_[size_class]->next;
    kept_bytes_ -= size_of(size_class);
  } else {
    memory = ::operator new(size_of(size_class));
  }
  auto* copy = new (memory) WaitingFrame(frame);
  auto* content = reinterpret_cast<std::byte*>(copy + 1);
  if (!bytes.empty()) std::memcpy(content, bytes.data(), bytes.size());
  copy->older = copy->newer = copy->previous = copy->next = nullptr;
  copy->bytes = content;
  copy->size = static_cast<std::uint32_t>(bytes.size());
  copy->size_class = static_cast<std::uint16_t>(size_class);
  copy->stored = true;
  return copy;
}

void FramePool::give(WaitingFrame* frame) noexcept {
  const std::size_t size = size_of(frame->size_class);
  if (kept_bytes_ + size > kept_bytes_max_) {
    ::operator delete(frame);
    return;
  }
  frame->next = kept_[frame->size_class];
  kept_[frame->size_class] = frame;
  kept_bytes_ += size;
}

}  // namespace tandem::proxy
