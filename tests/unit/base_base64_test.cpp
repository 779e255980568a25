// Base64, by the vectors of RFC 4648 and by everything that is none.
#include <gtest/gtest.h>

#include "base/base64.hpp"

namespace tandem {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

TEST(Base64, IsThatOfTheStandard) {
  const std::vector<std::pair<std::string, std::string>> vectors{{"", ""},
                                                                 {"f", "Zg=="},
                                                                 {"fo", "Zm8="},
                                                                 {"foo", "Zm9v"},
                                                                 {"foob", "Zm9vYg=="},
                                                                 {"fooba", "Zm9vYmE="},
                                                                 {"foobar", "Zm9vYmFy"},
                                                                 {"\xff\xff\xfb\xef", "///77w=="},
                                                                 {"\xfb\xef\xbe", "++++"}};
  for (const auto& [plain, text] : vectors) {
    EXPECT_EQ(encode_base64(bytes_of(plain)), text);
    EXPECT_EQ(base64_size(plain.size()), text.size());
    const auto decoded = decode_base64(text);
    ASSERT_TRUE(decoded) << text;
    EXPECT_EQ(*decoded, bytes_of(plain));
  }
}

TEST(Base64, EveryByteAtEveryPlaceComesBack) {
  for (std::size_t size = 1; size <= 5; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      for (unsigned value = 0; value < 256; ++value) {
        std::vector<std::byte> bytes(size, std::byte{0x5a});
        bytes[at] = static_cast<std::byte>(value);
        const auto decoded = decode_base64(encode_base64(bytes));
        ASSERT_TRUE(decoded);
        ASSERT_EQ(*decoded, bytes);
      }
    }
  }
}

TEST(Base64, WhatIsNoneIsRefused) {
  for (const char* text : {"Z", "Zg", "Zg=", "Zg==Zg==", "=", "====", "Z===", "A===", "Zm9v\n",
                           "Zm 9", "Zm9-", "Zm9_", "Zg=a", "Z=g=", "Zm9v=", "\xc3\xa4gg"}) {
    const auto decoded = decode_base64(text);
    ASSERT_FALSE(decoded) << text;
    EXPECT_EQ(decoded.error().code, Errc::protocol);
  }
}

TEST(Base64, ALengthThatIsNoMultipleOfFourIsRefusedBeforeALook) {
  for (const char* text : {"Z", "Zg", "Zg=", "Zm9vZ"}) {
    EXPECT_NE(decode_base64(text).error().message.find("no multiple of 4"), std::string::npos);
  }
}

TEST(Base64, BitsBehindTheLastByteAreRefused) {
  EXPECT_TRUE(decode_base64("Zg=="));
  EXPECT_FALSE(decode_base64("Zh=="));
  EXPECT_TRUE(decode_base64("Zm8="));
  EXPECT_FALSE(decode_base64("Zm9="));
}

}  // namespace
}  // namespace tandem
