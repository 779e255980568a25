// The framing of QEMU's network filter chardevs: be32 length, be32 virtio-net header length
// (filters with vnet_hdr_support), then `length` bytes, the header's among them. Source: QEMU
// net/filter-mirror.c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.hpp"

namespace tandem::proxy {

inline constexpr std::size_t frame_prefix_size = 8;
/// QEMU's own limit, NET_BUFSIZE, and room for the header.
inline constexpr std::uint32_t frame_length_max = 4096 + 65536 + 64;

/// Finds frame boundaries in a byte stream cut anywhere. Sans-I/O; keeps nothing but its position.
class FrameScanner {
 public:
  struct Scan {
    std::size_t complete =
        0;  ///< length of the longest prefix of `bytes` that consists of whole frames
    std::size_t frames = 0;  ///< how many frames that is
  };
  /// `bytes` begins at a frame's first byte. Errc::protocol for a length that no filter sends.
  static Result<Scan> scan(std::span<const std::byte> bytes);
};

}  // namespace tandem::proxy
