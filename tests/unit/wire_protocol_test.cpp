// The wire protocol between two daemons: hellos, and every frame type on every lane.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "base/big_endian.hpp"
#include "engine/wire/protocol.hpp"

namespace tandem::wire {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::uint64_t kCheckpointMax = 1000;
constexpr std::array kLanes{LaneKind::bulk, LaneKind::packet, LaneKind::control};
constexpr std::array kTypes{FrameType::stream,      FrameType::checkpoint,   FrameType::heartbeat,
                            FrameType::setup,       FrameType::setup_done,   FrameType::failed,
                            FrameType::return_path, FrameType::ready,        FrameType::committed,
                            FrameType::loaded,      FrameType::take_over,    FrameType::end,
                            FrameType::ask,         FrameType::translations, FrameType::input,
                            FrameType::reference,   FrameType::output};

std::span<const std::byte, hello_header_size> header_of(const std::vector<std::byte>& bytes) {
  return std::span(bytes).first<hello_header_size>();
}

std::span<const std::byte, hello_header_size> foreign(std::string_view text) {
  return std::as_bytes(std::span(text)).first<hello_header_size>();
}

TEST(WireHello, RoundTripsEveryLane) {
  for (const auto kind : kLanes) {
    const auto bytes = encode_hello(kind, R"({"vm":"demo"})");
    const auto header = decode_hello(header_of(bytes));
    ASSERT_TRUE(header) << to_string(kind);
    EXPECT_EQ(header->kind, kind);
    EXPECT_EQ(header->text_length, 13u);
    EXPECT_EQ(std::memcmp(&bytes[hello_header_size], R"({"vm":"demo"})", 13), 0);
  }
}

TEST(WireHello, BeginsWithMagicAndVersion) {
  const auto bytes = encode_hello(LaneKind::control, "");
  ASSERT_EQ(bytes.size(), hello_header_size);
  EXPECT_EQ(std::memcmp(bytes.data(), "TNDM", 4), 0);
  EXPECT_EQ(load_be<std::uint16_t>(&bytes[4]), protocol_version);
  EXPECT_EQ(load_be<std::uint16_t>(&bytes[6]), 3);
}

TEST(WireHello, OtherVersionIsRefusedAndBothVersionsAreNamed) {
  auto bytes = encode_hello(LaneKind::bulk, "");
  store_be<std::uint16_t>(&bytes[4], 4711);
  for (const auto& error :
       {decode_hello(header_of(bytes)).error(), decode_hello_answer(header_of(bytes)).error()}) {
    EXPECT_EQ(error.code, Errc::refused);
    EXPECT_THAT(error.message, AllOf(HasSubstr("version 4711"),
                                     HasSubstr("version " + std::to_string(protocol_version))));
  }
}

TEST(WireHello, AnotherProgramsBytesAreNotTandem) {
  for (const auto& text : {std::string("GET / HTTP/1.1\r\n"), std::string("SSH-2.0-OpenSSH_9.2"),
                           std::string("tndm00000000"), std::string(12, '\0')}) {
    const auto header = decode_hello(foreign(text));
    ASSERT_FALSE(header) << text;
    EXPECT_EQ(header.error().code, Errc::protocol);
    EXPECT_THAT(header.error().message, HasSubstr("does not speak"));
  }
}

TEST(WireHello, EveryByteOfTheMagicCounts) {
  for (std::size_t i = 0; i < 4; ++i) {
    auto bytes = encode_hello(LaneKind::bulk, "");
    bytes[i] ^= std::byte{1};
    EXPECT_FALSE(decode_hello(header_of(bytes))) << i;
  }
}

TEST(WireHello, UnknownLaneIsRefusedByNumber) {
  for (const auto kind : {std::uint16_t{0}, std::uint16_t{4}, std::uint16_t{65535}}) {
    auto bytes = encode_hello(LaneKind::bulk, "");
    store_be(&bytes[6], kind);
    const auto header = decode_hello(header_of(bytes));
    ASSERT_FALSE(header);
    EXPECT_EQ(header.error().code, Errc::protocol);
    EXPECT_THAT(header.error().message, HasSubstr("lane " + std::to_string(kind)));
  }
}

TEST(WireHello, TextOverTheLimitIsRefusedWithBothNumbers) {
  auto bytes = encode_hello(LaneKind::bulk, "");
  store_be<std::uint32_t>(&bytes[8], hello_text_max);
  EXPECT_TRUE(decode_hello(header_of(bytes)));
  store_be<std::uint32_t>(&bytes[8], hello_text_max + 1);
  const auto header = decode_hello(header_of(bytes));
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().code, Errc::limit);
  EXPECT_THAT(header.error().message, AllOf(HasSubstr("65537"), HasSubstr("65536")));
}

TEST(WireHelloAnswer, RoundTripsAndCutsAnOverlongReason) {
  const auto refused = encode_hello_answer(HelloStatus::refused, "no such VM");
  auto header = decode_hello_answer(header_of(refused));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->status, HelloStatus::refused);
  EXPECT_EQ(header->text_length, 10u);
  const auto accepted = encode_hello_answer(HelloStatus::accepted, "");
  EXPECT_EQ(decode_hello_answer(header_of(accepted))->status, HelloStatus::accepted);
  const auto huge = encode_hello_answer(HelloStatus::refused, std::string(hello_text_max + 5, 'x'));
  header = decode_hello_answer(header_of(huge));
  ASSERT_TRUE(header) << "an answer must always be one that the other side accepts";
  EXPECT_EQ(huge.size(), hello_header_size + hello_text_max);
}

TEST(WireHelloAnswer, UnknownStatusIsRefused) {
  auto bytes = encode_hello_answer(HelloStatus::accepted, "");
  store_be<std::uint16_t>(&bytes[6], 2);
  EXPECT_EQ(decode_hello_answer(header_of(bytes)).error().code, Errc::protocol);
}

/// Which lane a frame type belongs on, and how long it may be: written down a second time on
/// purpose.
struct Expectation {
  std::set<LaneKind> lanes;
  std::uint64_t length_max;
};

Expectation expected(FrameType type) {
  switch (type) {
    case FrameType::stream:
      return {{LaneKind::bulk}, 1u << 20};
    case FrameType::checkpoint:
      return {{LaneKind::bulk}, kCheckpointMax};
    case FrameType::heartbeat:
      return {{LaneKind::packet, LaneKind::control}, 0};
    case FrameType::setup_done:
    case FrameType::ready:
    case FrameType::committed:
    case FrameType::loaded:
      return {{LaneKind::control}, 0};
    case FrameType::setup:
    case FrameType::failed:
    case FrameType::return_path:
    case FrameType::take_over:
    case FrameType::end:
    case FrameType::ask:
      return {{LaneKind::control}, 256u << 10};
    case FrameType::translations:
      return {{LaneKind::bulk}, 4u << 20};
    case FrameType::input:
    case FrameType::reference:
    case FrameType::output:
      return {{LaneKind::packet}, 512u << 10};
  }
  ADD_FAILURE() << "a frame type without an expectation";
  return {};
}

TEST(WireFrame, EveryTypeIsAcceptedOnItsLanesOnly) {
  for (const auto type : kTypes) {
    for (const auto lane : kLanes) {
      const FrameHeader header{type, 7, 0};
      const auto decoded = decode_frame(encode_frame(header), lane, kCheckpointMax);
      const std::string where =
          std::string(to_string(type)) + " on " + std::string(to_string(lane));
      if (expected(type).lanes.contains(lane)) {
        ASSERT_TRUE(decoded) << where << ": " << decoded.error().message;
        EXPECT_EQ(*decoded, header) << where;
      } else {
        ASSERT_FALSE(decoded) << where;
        EXPECT_EQ(decoded.error().code, Errc::protocol);
        EXPECT_THAT(decoded.error().message, AllOf(HasSubstr(std::string(to_string(type))),
                                                   HasSubstr(std::string(to_string(lane)))));
      }
    }
  }
}

TEST(WireFrame, EveryTypeIsAcceptedUpToItsLimitAndNotBeyond) {
  for (const auto type : kTypes) {
    const auto rule = expected(type);
    for (const auto lane : rule.lanes) {
      const auto decode = [&](std::uint64_t length) {
        return decode_frame(encode_frame({type, 0, length}), lane, kCheckpointMax);
      };
      EXPECT_TRUE(decode(rule.length_max)) << to_string(type);
      for (const auto length : {rule.length_max + 1, UINT64_MAX}) {
        ASSERT_FALSE(decode(length)) << to_string(type);
        EXPECT_EQ(decode(length).error().code, Errc::limit);
        EXPECT_THAT(
            decode(length).error().message,
            AllOf(HasSubstr(std::to_string(length)), HasSubstr(std::to_string(rule.length_max))));
      }
    }
  }
}

TEST(WireFrame, NumbersUseAllTheirBits) {
  const FrameHeader header{FrameType::committed, 0xfedcba9876543210u, 0};
  EXPECT_EQ(*decode_frame(encode_frame(header), LaneKind::control, 0), header);
}

TEST(WireFrame, UnknownTypesAreRefused) {
  for (const std::uint32_t type : {0u, 4u, 15u, 27u, 31u, 35u, 0xffffffffu}) {
    for (const auto lane : kLanes) {
      const auto decoded =
          decode_frame(encode_frame({static_cast<FrameType>(type), 0, 0}), lane, kCheckpointMax);
      ASSERT_FALSE(decoded) << type;
      EXPECT_EQ(decoded.error().code, Errc::protocol);
      EXPECT_THAT(decoded.error().message, HasSubstr(std::to_string(type)));
    }
  }
}

TEST(WireFrame, ACheckpointSaysWhetherTheSecondaryRunsInItsEpoch) {
  const FrameHeader header{FrameType::checkpoint, 5, 100, flag_runs};
  const auto decoded = decode_frame(encode_frame(header), LaneKind::bulk, kCheckpointMax);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, header);
  const FrameHeader unknown{FrameType::checkpoint, 5, 100, flag_runs << 1};
  EXPECT_FALSE(decode_frame(encode_frame(unknown), LaneKind::bulk, kCheckpointMax));
}

TEST(WireFrame, UnknownFlagsAreRefused) {
  for (std::size_t bit = 0; bit < 32; ++bit) {
    auto bytes = encode_frame({FrameType::ready, 0, 0});
    bytes[4 + bit / 8] |= static_cast<std::byte>(1u << (bit % 8));
    const auto decoded = decode_frame(bytes, LaneKind::control, 0);
    ASSERT_FALSE(decoded) << bit;
    EXPECT_THAT(decoded.error().message, HasSubstr("unknown flags"));
  }
}

}  // namespace
}  // namespace tandem::wire
