// The COLO stream parser against hand-made messages, one behaviour a test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/big_endian.hpp"
#include "engine/colo/event_log.hpp"
#include "engine/colo/stream_parser.hpp"
#include "engine/colo/wire_format.hpp"

namespace tandem::colo {
namespace {

using ::testing::HasSubstr;
using Kind = Event::Kind;

/// Bytes put together by hand, without the writer, so that these tests stand for the format itself.
struct Bytes {
  std::vector<std::byte> data;

  Bytes& u8(unsigned value) {
    data.push_back(static_cast<std::byte>(value));
    return *this;
  }
  Bytes& be32(std::uint32_t value) { return be(value); }
  Bytes& be64(std::uint64_t value) { return be(value); }
  Bytes& text(std::string_view value) {
    for (const char c : value) u8(static_cast<unsigned char>(c));
    return *this;
  }
  Bytes& fill(std::size_t count, unsigned value) {
    data.insert(data.end(), count, static_cast<std::byte>(value));
    return *this;
  }
  template <class T>
  Bytes& be(T value) {
    std::array<std::byte, sizeof(T)> bytes;
    store_be(bytes.data(), value);
    data.insert(data.end(), bytes.begin(), bytes.end());
    return *this;
  }

  Bytes& request_and_send() { return be32(1).be32(3); }
  Bytes& section(std::uint32_t id) { return u8(0x03).be32(id); }
  Bytes& eos() { return be64(0x10); }
  Bytes& footer(std::uint32_t id) { return u8(0x7e).be32(id); }
  /// End of the sections, and a device state of three bytes.
  Bytes& rest() { return u8(0).be32(4).be64(3).text("dev"); }
};

Outcome whole(const Bytes& bytes, ParserLimits limits = {}) {
  return feed_stream(
      bytes.data, [](std::size_t) { return std::size_t{1} << 30; }, limits);
}

/// The outcome of a checkpoint whose only section has the record head `head`, and nothing behind
/// it.
Outcome record_head(std::uint64_t head) {
  return whole(Bytes{}.request_and_send().section(2).be64(head));
}

void expect_error(const Outcome& outcome, Errc code, std::string_view words) {
  ASSERT_TRUE(outcome.error.has_value()) << "expected an error with: " << words;
  EXPECT_EQ(to_string(outcome.error->code), to_string(code));
  EXPECT_THAT(outcome.error->message, HasSubstr(std::string(words)));
}

std::vector<Event> pages_of(const Outcome& outcome) {
  std::vector<Event> pages;
  for (const Event& event : outcome.events) {
    if (event.kind == Kind::page || event.kind == Kind::zero_page) pages.push_back(event);
  }
  return pages;
}

TEST(ColoParser, ReportsAWholeCheckpointInStreamOrder) {
  const auto outcome = whole(Bytes{}
                                 .request_and_send()
                                 .section(2)
                                 .be64(0x3000 | 0x08)
                                 .u8(6)
                                 .text("pc.ram")
                                 .fill(4096, 0xab)
                                 .be64(0x5000 | 0x22)
                                 .u8(0)
                                 .eos()
                                 .footer(2)
                                 .rest());
  const std::vector<Event> expected{
      {Kind::message, 1},
      {Kind::message, 3},
      {Kind::page, 0x3000, "pc.ram", std::vector<std::byte>(4096, std::byte{0xab})},
      {Kind::zero_page, 0x5000, "pc.ram", {std::byte{0}}},
      {Kind::device_state_size, 3},
      {Kind::device_state, 0, "", {std::byte{'d'}, std::byte{'e'}, std::byte{'v'}}},
      {Kind::checkpoint_end},
  };
  EXPECT_EQ(outcome.error, std::nullopt);
  EXPECT_EQ(outcome.events, expected);
  EXPECT_TRUE(outcome.idle);
}

TEST(ColoParser, ReportsThePageInTheCallersOwnBuffer) {
  struct : Sink {
    const std::byte* page = nullptr;
    void on_page(std::string_view, std::uint64_t, std::span<const std::byte> bytes) override {
      page = bytes.data();
      EXPECT_EQ(bytes.size(), page_size);
    }
  } sink;
  const auto bytes = Bytes{}.request_and_send().section(2).be64(0x28).fill(4096, 1);
  StreamParser parser;
  ASSERT_TRUE(parser.parse(bytes.data, sink).has_value());
  EXPECT_EQ(sink.page, bytes.data.data() + 4 + 4 + 5 + 8);
}

TEST(ColoParser, AcceptsACheckpointThatNamesNoBlock) {
  const auto outcome = whole(Bytes{}
                                 .request_and_send()
                                 .section(2)
                                 .be64(0x1000 | 0x28)
                                 .fill(4096, 1)
                                 .eos()
                                 .footer(2)
                                 .rest());
  ASSERT_EQ(outcome.error, std::nullopt);
  ASSERT_EQ(pages_of(outcome).size(), 1u);
  EXPECT_EQ(pages_of(outcome)[0].block, "");
}

TEST(ColoParser, KeepsTheBlockNameOverCheckpoints) {
  Bytes bytes;
  bytes.request_and_send().section(2).be64(0x02).u8(4).text("vram").u8(0).eos().footer(2).rest();
  bytes.request_and_send().section(2).be64(0x22).u8(0).eos().footer(2).rest();
  const auto pages = pages_of(whole(bytes));
  ASSERT_EQ(pages.size(), 2u);
  EXPECT_EQ(pages[1].block, "vram");
}

TEST(ColoParser, TakesEachNewBlockName) {
  Bytes bytes;
  bytes.request_and_send().section(2);
  bytes.be64(0x02).u8(4).text("vram").u8(0);
  bytes.be64(0x02).u8(6).text("pc.ram").u8(0);
  bytes.be64(0x1022).u8(0);
  const auto pages = pages_of(whole(bytes));
  ASSERT_EQ(pages.size(), 3u);
  EXPECT_EQ(pages[0].block, "vram");
  EXPECT_EQ(pages[1].block, "pc.ram");
  EXPECT_EQ(pages[2].block, "pc.ram");
}

TEST(ColoParser, TakesTheLongestBlockName) {
  const std::string name(255, 'n');
  Bytes bytes;
  bytes.request_and_send().section(2).be64(0x08).u8(255).text(name).fill(4096, 7);
  const auto pages = pages_of(whole(bytes));
  ASSERT_EQ(pages.size(), 1u);
  EXPECT_EQ(pages[0].block, name);
}

TEST(ColoParser, ReportsTheFillByteOfAZeroRecord) {
  const auto pages = pages_of(whole(Bytes{}.request_and_send().section(2).be64(0x22).u8(0x5a)));
  ASSERT_EQ(pages.size(), 1u);
  EXPECT_EQ(pages[0].bytes, std::vector{std::byte{0x5a}});
}

TEST(ColoParser, AcceptsASectionWithoutFooter) {
  const auto outcome = whole(Bytes{}.request_and_send().section(2).eos().rest());
  EXPECT_EQ(outcome.error, std::nullopt);
  EXPECT_TRUE(outcome.idle);
}

TEST(ColoParser, AcceptsACheckpointWithoutSections) {
  const auto outcome = whole(Bytes{}.request_and_send().rest());
  EXPECT_EQ(outcome.error, std::nullopt);
  EXPECT_TRUE(outcome.idle);
}

TEST(ColoParser, AcceptsSeveralSections) {
  const auto outcome = whole(
      Bytes{}.request_and_send().section(2).eos().footer(2).section(3).eos().footer(3).rest());
  EXPECT_EQ(outcome.error, std::nullopt);
  EXPECT_TRUE(outcome.idle);
}

TEST(ColoParser, RefusesAFooterOfAnotherSection) {
  expect_error(whole(Bytes{}.request_and_send().section(2).eos().footer(9)), Errc::protocol,
               "the footer is of section 9, but the section at hand is 2");
}

TEST(ColoParser, RefusesAFooterWithoutSection) {
  expect_error(whole(Bytes{}.request_and_send().footer(2)), Errc::protocol, "SECTION_FOOTER");
}

TEST(ColoParser, RefusesASecondFooter) {
  expect_error(whole(Bytes{}.request_and_send().section(2).eos().footer(2).footer(2)),
               Errc::protocol, "SECTION_FOOTER");
}

TEST(ColoParser, RefusesSendWithoutRequest) {
  expect_error(whole(Bytes{}.be32(3)), Errc::protocol,
               "expected the message CHECKPOINT_REQUEST, found 0x3 (VMSTATE_SEND)");
}

TEST(ColoParser, RefusesASecondRequest) {
  expect_error(whole(Bytes{}.be32(1).be32(1)), Errc::protocol,
               "expected the message VMSTATE_SEND, found 0x1 (CHECKPOINT_REQUEST)");
}

TEST(ColoParser, RefusesAnyOtherMessageBetweenCheckpoints) {
  for (const std::uint32_t value : {0u, 2u, 3u, 4u, 5u, 6u}) {
    expect_error(whole(Bytes{}.be32(value)), Errc::protocol, to_string(Message{value}));
  }
  expect_error(whole(Bytes{}.be32(7)), Errc::protocol, "0x7 (unknown)");
  expect_error(whole(Bytes{}.be32(0xffffffff)), Errc::protocol, "0xffffffff (unknown)");
}

TEST(ColoParser, RefusesAnyOtherMessageInPlaceOfTheSize) {
  for (const std::uint32_t value : {0u, 1u, 2u, 3u, 5u, 6u, 7u}) {
    expect_error(whole(Bytes{}.request_and_send().u8(0).be32(value)), Errc::protocol,
                 "expected the message VMSTATE_SIZE");
  }
}

TEST(ColoParser, RefusesEveryOtherSectionTypeByItsName) {
  const std::array<std::pair<unsigned, std::string_view>, 8> types{{{1, "SECTION_START"},
                                                                    {2, "SECTION_PART"},
                                                                    {4, "SECTION_FULL"},
                                                                    {5, "SUBSECTION"},
                                                                    {6, "VMDESCRIPTION"},
                                                                    {7, "CONFIGURATION"},
                                                                    {8, "COMMAND"},
                                                                    {0x55, "0x55 (unknown)"}}};
  for (const auto& [type, name] : types) {
    expect_error(whole(Bytes{}.request_and_send().u8(type)), Errc::protocol, name);
  }
}

TEST(ColoParser, RefusesTheRecordFlagsThatItDoesNotSupportByTheirNames) {
  expect_error(record_head(0x01), Errc::protocol, "RAM_SAVE_FLAG_FULL");
  expect_error(record_head(0x04), Errc::protocol, "RAM_SAVE_FLAG_MEM_SIZE");
  expect_error(record_head(0x40), Errc::protocol, "RAM_SAVE_FLAG_XBZRLE");
  expect_error(record_head(0x80), Errc::protocol, "RAM_SAVE_FLAG_HOOK");
  expect_error(record_head(0x100), Errc::protocol, "RAM_SAVE_FLAG_COMPRESS_PAGE");
  expect_error(record_head(0x200), Errc::protocol, "RAM_SAVE_FLAG_MULTIFD_FLUSH");
  expect_error(record_head(0x400), Errc::protocol, "unknown ram record flag 0x400");
  expect_error(record_head(0x800), Errc::protocol, "unknown ram record flag 0x800");
}

TEST(ColoParser, AcceptsExactlyFiveCombinationsOfRecordFlags) {
  std::vector<std::uint64_t> accepted;
  for (std::uint64_t flags = 0; flags <= flags_mask; ++flags) {
    const auto outcome = record_head(flags);
    if (!outcome.error) {
      accepted.push_back(flags);
    } else {
      EXPECT_EQ(to_string(outcome.error->code), to_string(Errc::protocol));
    }
  }
  EXPECT_EQ(accepted, (std::vector<std::uint64_t>{0x02, 0x08, 0x10, 0x22, 0x28}));
}

TEST(ColoParser, CallsContradictoryFlagsByThatName) {
  for (const std::uint64_t flags : {0x00u, 0x20u, 0x0au, 0x2au, 0x18u, 0x12u, 0x30u, 0x38u}) {
    expect_error(record_head(flags), Errc::protocol, "contradictory ram record flags");
  }
}

TEST(ColoParser, RefusesAnEndOfSectionWithAnOffset) {
  expect_error(record_head(0x1000 | 0x10), Errc::protocol, "0x1000");
}

TEST(ColoParser, RefusesAnEmptyBlockName) {
  expect_error(whole(Bytes{}.request_and_send().section(2).be64(0x08).u8(0)), Errc::protocol,
               "empty block name");
}

TEST(ColoParser, RefusesABlockNameWithAZeroByte) {
  expect_error(whole(Bytes{}.request_and_send().section(2).be64(0x08).u8(3).u8('a').u8(0).u8('b')),
               Errc::protocol, "zero byte");
}

TEST(ColoParser, RefusesAnEmptyDeviceState) {
  expect_error(whole(Bytes{}.request_and_send().u8(0).be32(4).be64(0)), Errc::protocol,
               "the device state has no bytes");
}

TEST(ColoParser, RefusesADeviceStateBeyondItsLimitAndTakesOneAtIt) {
  const ParserLimits limits{.device_state_bytes_max = 100};
  expect_error(whole(Bytes{}.request_and_send().u8(0).be32(4).be64(101), limits), Errc::limit,
               "the device state has 101 bytes, more than the limit of 100");
  const auto at_limit =
      whole(Bytes{}.request_and_send().u8(0).be32(4).be64(100).fill(100, 1), limits);
  EXPECT_EQ(at_limit.error, std::nullopt);
  EXPECT_TRUE(at_limit.idle);
}

TEST(ColoParser, RefusesTheLargestDeviceStateThatCanBeWritten) {
  expect_error(whole(Bytes{}.request_and_send().u8(0).be32(4).be64(~std::uint64_t{0})), Errc::limit,
               "18446744073709551615");
}

TEST(ColoParser, RefusesMoreSectionsThanItsLimitAndCountsThemPerCheckpoint) {
  const ParserLimits limits{.sections_max = 1};
  Bytes bytes;
  bytes.request_and_send().section(2).eos().footer(2).rest();
  bytes.request_and_send().section(2).eos().footer(2).rest();
  EXPECT_EQ(whole(bytes, limits).error, std::nullopt);
  expect_error(whole(Bytes{}.request_and_send().section(2).eos().footer(2).section(2), limits),
               Errc::limit, "more than 1 sections");
}

TEST(ColoParser, RefusesMoreRecordsThanItsLimitAndCountsThemPerCheckpoint) {
  const ParserLimits limits{.records_max = 2};
  Bytes bytes;
  bytes.request_and_send().section(2).be64(0x22).u8(0).be64(0x22).u8(0).eos().footer(2).rest();
  bytes.request_and_send().section(2).be64(0x22).u8(0).be64(0x22).u8(0).eos().footer(2).rest();
  EXPECT_EQ(whole(bytes, limits).error, std::nullopt);
  bytes.request_and_send().section(2).be64(0x22).u8(0).be64(0x22).u8(0).be64(0x22).u8(0);
  expect_error(whole(bytes, limits), Errc::limit, "more than 2 pages");
}

TEST(ColoParser, RefusesAPageAtOrAboveTheRamLimit) {
  const ParserLimits limits{.ram_bytes_max = 0x2000};
  EXPECT_EQ(whole(Bytes{}.request_and_send().section(2).be64(0x1000 | 0x22).u8(0), limits).error,
            std::nullopt);
  expect_error(whole(Bytes{}.request_and_send().section(2).be64(0x2000 | 0x22).u8(0), limits),
               Errc::limit, "0x2000");
}

TEST(ColoParser, RepeatsItsErrorAndIsNotIdle) {
  StreamParser parser;
  EventLog log;
  const auto first = parser.parse(Bytes{}.be32(3).data, log);
  ASSERT_FALSE(first.has_value());
  const auto second = parser.parse(Bytes{}.be32(1).data, log);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(first.error(), second.error());
  EXPECT_FALSE(parser.idle());
  EXPECT_TRUE(log.events.empty());
}

TEST(ColoParser, SaysAtWhichByteOfTheStreamTheErrorIs) {
  Bytes bytes;
  bytes.request_and_send().rest();
  const auto good_bytes = bytes.data.size();
  expect_error(whole(bytes.be32(6)), Errc::protocol, "byte " + std::to_string(good_bytes) + ":");
}

TEST(ColoParser, ReportsWhatCameBeforeTheError) {
  const auto outcome = whole(Bytes{}.request_and_send().section(2).be64(0x22).u8(0).be64(0x40));
  EXPECT_TRUE(outcome.error.has_value());
  EXPECT_EQ(pages_of(outcome).size(), 1u);
}

TEST(ColoParser, PausesBehindEachMessageWhenAsked) {
  StreamParser parser;
  EventLog log;
  const auto bytes = Bytes{}.request_and_send().section(2).eos().footer(2).rest();
  const std::span<const std::byte> all(bytes.data);
  const auto request = parser.parse(all, log, true);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(*request, 4u);
  EXPECT_EQ(log.events.size(), 1u);
  const auto send = parser.parse(all.subspan(4), log, true);
  ASSERT_TRUE(send.has_value());
  EXPECT_EQ(*send, 4u);
  EXPECT_EQ(log.events.size(), 2u);
  const auto rest = parser.parse(all.subspan(8), log, true);
  ASSERT_TRUE(rest.has_value());
  EXPECT_EQ(*rest, all.size() - 8);
  EXPECT_TRUE(parser.idle());
}

TEST(ColoParser, IsIdleOnlyBetweenCheckpoints) {
  const auto bytes = Bytes{}.request_and_send().section(2).be64(0x22).u8(0).eos().footer(2).rest();
  StreamParser parser;
  Sink sink;
  EXPECT_TRUE(parser.idle());
  std::size_t consumed = 0;
  for (std::size_t end = 1; end <= bytes.data.size(); ++end) {
    const auto parsed = parser.parse(std::span(bytes.data).subspan(consumed, end - consumed), sink);
    ASSERT_TRUE(parsed.has_value());
    consumed += *parsed;
    EXPECT_EQ(parser.idle(), consumed == 0 || consumed == bytes.data.size()) << end;
  }
}

TEST(ColoParser, SaysHowManyBytesItNeeds) {
  StreamParser parser;
  Sink sink;
  EXPECT_EQ(parser.bytes_needed(0), 4u);
  const auto feed = [&](const Bytes& bytes) {
    const auto parsed = parser.parse(bytes.data, sink);
    EXPECT_TRUE(parsed.has_value());
    return *parsed;
  };
  EXPECT_EQ(feed(Bytes{}.u8(0)), 0u);
  EXPECT_EQ(parser.bytes_needed(1), 3u);
  EXPECT_EQ(feed(Bytes{}.request_and_send()), 8u);
  EXPECT_EQ(parser.bytes_needed(0), 1u);
  EXPECT_EQ(feed(Bytes{}.section(2)), 5u);
  EXPECT_EQ(parser.bytes_needed(0), 8u);
  // A page with CONTINUE is its head and the page; one without has a name of at least one byte.
  EXPECT_EQ(feed(Bytes{}.be64(0x28)), 0u);
  EXPECT_EQ(parser.bytes_needed(8), 4096u);
  EXPECT_EQ(feed(Bytes{}.be64(0x28).fill(4096, 0)), 8u + 4096u);
  EXPECT_EQ(feed(Bytes{}.be64(0x08)), 0u);
  EXPECT_EQ(parser.bytes_needed(8), 2u + 4096u);
  EXPECT_EQ(feed(Bytes{}.be64(0x08).u8(6)), 0u);
  EXPECT_EQ(parser.bytes_needed(9), 6u + 4096u);
}

TEST(ColoParser, NamesEveryMessage) {
  EXPECT_EQ(to_string(Message::checkpoint_ready), "CHECKPOINT_READY");
  EXPECT_EQ(to_string(Message::vmstate_loaded), "VMSTATE_LOADED");
  EXPECT_EQ(to_string(Message{99}), "unknown");
}

}  // namespace
}  // namespace tandem::colo
