#include "base/base64.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace tandem {
namespace {

constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t no_digit = 64;

constexpr std::array<std::uint8_t, 256> digit_values() {
  std::array<std::uint8_t, 256> values{};
  values.fill(no_digit);
  for (std::size_t i = 0; i < alphabet.size(); ++i) {
    values[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return values;
}
constexpr auto digits = digit_values();

Error not_base64(const std::string& what) {
  return {Errc::protocol, "base64 text " + what};
}

}  // namespace

std::string encode_base64(std::span<const std::byte> bytes) {
  std::string text;
  text.reserve(base64_size(bytes.size()));
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const auto count = std::min<std::size_t>(bytes.size() - at, 3);
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8 | (i < count ? std::to_integer<std::uint32_t>(bytes[at + i]) : 0);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text += i <= count ? alphabet[group >> (18 - 6 * i) & 63] : '=';
    }
  }
  return text;
}

Result<std::vector<std::byte>> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) {
    return not_base64("has " + std::to_string(text.size()) + " characters, no multiple of 4");
  }
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  std::vector<std::byte> bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t at = 0; at < text.size(); at += 4) {
    const std::size_t padded = at + 4 == text.size() ? padding : 0;
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      const std::uint32_t digit =
          i < 4 - padded ? digits[static_cast<unsigned char>(text[at + i])] : std::uint8_t{0};
      if (digit == no_digit) {
        return not_base64("has a strange character at " + std::to_string(at + i));
      }
      group = group << 6 | digit;
    }
    const std::size_t count = 3 - padded;
    if ((group & ((1u << 8 * padded) - 1)) != 0) {
      return not_base64("has bits behind its last byte");
    }
    for (std::size_t i = 0; i < count; ++i) {
      bytes.push_back(static_cast<std::byte>(group >> (16 - 8 * i) & 0xff));
    }
  }
  return bytes;
}

}  // namespace tandem
