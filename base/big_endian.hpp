// Big-endian integers in byte buffers, as QEMU's migration stream and our wire protocol use them.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tandem {

static_assert(std::endian::native == std::endian::little, "byte order conversion assumes x86-64");

template <std::unsigned_integral T>
constexpr T byte_swap(T value) noexcept {
  if constexpr (sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(value));
  if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(value));
  if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(value));
}

/// The big-endian integer whose first byte is at `from`; sizeof(T) bytes must be readable there.
template <std::unsigned_integral T>
T load_be(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return byte_swap(value);
}

/// Writes sizeof(T) bytes at `to`.
template <std::unsigned_integral T>
void store_be(std::byte* to, T value) noexcept {
  const T swapped = byte_swap(value);
  std::memcpy(to, &swapped, sizeof swapped);
}

}  // namespace tandem
