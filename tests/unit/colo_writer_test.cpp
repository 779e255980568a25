// The COLO stream writer: the exact bytes of each element, and the mistakes that it refuses.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "engine/colo/stream_writer.hpp"

namespace tandem::colo {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    text += digits[std::to_integer<unsigned>(b) >> 4];
    text += digits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

struct ColoWriter : ::testing::Test {
  std::vector<std::byte> out;
  StreamWriter writer{out};
  const std::vector<std::byte> page = std::vector<std::byte>(page_size, std::byte{0xcd});
};

TEST_F(ColoWriter, WritesAMessage) {
  writer.message(Message::checkpoint_request);
  EXPECT_EQ(hex(out), "00000001");
}

TEST_F(ColoWriter, WritesASectionWithItsFooter) {
  writer.begin_section(0x0203);
  writer.end_section();
  writer.end_sections();
  EXPECT_EQ(hex(out),
            "0300000203"
            "0000000000000010"
            "7e00000203"
            "00");
}

TEST_F(ColoWriter, WritesASectionWithoutFooter) {
  writer.begin_section(2);
  writer.end_section(false);
  EXPECT_EQ(hex(out),
            "0300000002"
            "0000000000000010");
}

TEST_F(ColoWriter, NamesABlockOnceAndThenContinues) {
  writer.zero_page("ram", 0x1000, std::byte{0});
  writer.zero_page("ram", 0x2000, std::byte{7});
  writer.zero_page("", 0x3000, std::byte{0});
  EXPECT_EQ(hex(out),
            "0000000000001002"
            "03"
            "72616d"
            "00"
            "0000000000002022"
            "07"
            "0000000000003022"
            "00");
}

TEST_F(ColoWriter, NamesABlockAgainAfterAnother) {
  writer.zero_page("a", 0, std::byte{0});
  writer.zero_page("b", 0, std::byte{0});
  writer.zero_page("a", 0, std::byte{0});
  EXPECT_EQ(hex(out),
            "0000000000000002"
            "0161"
            "00"
            "0000000000000002"
            "0162"
            "00"
            "0000000000000002"
            "0161"
            "00");
}

TEST_F(ColoWriter, NamesABlockAgainAfterItWasForgotten) {
  writer.zero_page("a", 0, std::byte{0});
  writer.forget_block();
  writer.zero_page("a", 0, std::byte{0});
  EXPECT_EQ(hex(out),
            "0000000000000002"
            "0161"
            "00"
            "0000000000000002"
            "0161"
            "00");
}

TEST_F(ColoWriter, WritesAPageBehindItsHead) {
  writer.page("ram", 0x7000, page);
  std::vector<std::byte> apart;
  StreamWriter(apart).page_head("ram", 0x7000);
  EXPECT_EQ(hex(apart),
            "0000000000007008"
            "03"
            "72616d");
  apart.insert(apart.end(), page.begin(), page.end());
  EXPECT_EQ(out, apart);
}

TEST_F(ColoWriter, WritesTheDeviceStateBehindItsSize) {
  writer.device_state(std::vector{std::byte{1}, std::byte{2}});
  EXPECT_EQ(hex(out),
            "00000004"
            "0000000000000002"
            "0102");
}

TEST_F(ColoWriter, RefusesWhatTheFormatCannotExpress) {
  EXPECT_THROW(writer.message(Message::vmstate_size), std::invalid_argument);
  EXPECT_THROW(writer.device_state({}), std::invalid_argument);
  EXPECT_THROW(writer.zero_page("ram", 0x1001, std::byte{0}), std::invalid_argument);
  EXPECT_THROW(writer.zero_page(std::string(256, 'n'), 0, std::byte{0}), std::invalid_argument);
  EXPECT_THROW(writer.zero_page(std::string_view("a\0b", 3), 0, std::byte{0}),
               std::invalid_argument);
  EXPECT_THROW(writer.page("ram", 0, std::span(page).first(100)), std::invalid_argument);
  EXPECT_TRUE(out.empty());
}

}  // namespace
}  // namespace tandem::colo
