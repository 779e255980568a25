// The framing of QEMU's network filter chardevs: be32 length, be32 virtio-net header length
// (filters with vnet_hdr_support), then `length` bytes, the header's among them. Source: QEMU
// net/filter-mirror.c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

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

/// Whole frames, back to back.
struct FrameSpan {
  std::span<const std::byte> bytes;
  std::size_t count = 0;
};

/// Puts the pieces that come out of a socket together to whole frames.
class FrameAssembler {
 public:
  /// The frames that `bytes` completes; valid until the next call, and as long as `bytes` is.
  /// Errc::protocol if these are no frames.
  Result<FrameSpan> add(std::span<const std::byte> bytes);

  /// A frame has begun and not ended.
  [[nodiscard]] bool mid_frame() const noexcept { return !partial_.empty(); }

 private:
  std::vector<std::byte> partial_;  ///< the beginning of a frame whose end has not come yet
  std::vector<std::byte> joined_;
};

}  // namespace tandem::proxy
