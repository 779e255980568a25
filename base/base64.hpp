// Base64 (RFC 4648, section 4), for bytes that travel in JSON.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace tandem {

/// How many characters encode_base64() makes of `size` bytes.
constexpr std::size_t base64_size(std::size_t size) noexcept {
  return (size + 2) / 3 * 4;
}

std::string encode_base64(std::span<const std::byte> bytes);

/// Errc::protocol for any text that encode_base64() does not make.
Result<std::vector<std::byte>> decode_base64(std::string_view text);

}  // namespace tandem
