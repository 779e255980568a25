// Properties of the COLO stream codec over generated checkpoint sequences.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "engine/colo/event_log.hpp"
#include "engine/colo/stream_writer.hpp"
#include "engine/colo/wire_format.hpp"

namespace tandem::colo {
namespace {

using Kind = Event::Kind;

/// A stream, and what it says.
struct Written {
  std::vector<std::byte> stream;
  std::vector<Event> events;
  std::vector<std::size_t> checkpoint_ends;  ///< the byte behind each checkpoint
};

std::byte any_byte() {
  return static_cast<std::byte>(*rc::gen::arbitrary<std::uint8_t>());
}

std::vector<std::byte> any_bytes(std::size_t size) {
  // One number spread over all of them: to draw every byte would take most of the test's time.
  const auto seed = *rc::gen::arbitrary<std::uint32_t>();
  std::vector<std::byte> bytes(size);
  std::uint32_t state = seed | 1;
  for (std::byte& b : bytes) {
    state = state * 1664525 + 1013904223;
    b = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

std::uint64_t any_offset(std::uint64_t below) {
  return *rc::gen::inRange<std::uint64_t>(0, below / page_size) * page_size;
}

const std::array<std::string, 5> block_names{"", "pc.ram", "0000:00:02.0/vga.vram", "x",
                                             std::string(block_name_size_max, 'n')};

void write_ram_section(StreamWriter& writer, Written& written, std::string& last_block) {
  writer.begin_section(*rc::gen::arbitrary<std::uint32_t>());
  const auto records = *rc::gen::inRange(0, 8);
  for (int i = 0; i < records; ++i) {
    const std::string& block = *rc::gen::elementOf(block_names);
    const std::uint64_t offset = any_offset(ParserLimits{}.ram_bytes_max);
    if (!block.empty()) last_block = block;
    if (*rc::gen::arbitrary<bool>()) {
      const auto page = any_bytes(page_size);
      writer.page(block, offset, page);
      written.events.push_back({Kind::page, offset, last_block, page});
    } else {
      const auto fill = any_byte();
      writer.zero_page(block, offset, fill);
      written.events.push_back({Kind::zero_page, offset, last_block, {fill}});
    }
  }
  writer.end_section(*rc::gen::arbitrary<bool>());
}

Written any_stream(int checkpoints_max = 4) {
  Written written;
  StreamWriter writer(written.stream);
  std::string last_block;
  const auto checkpoints = *rc::gen::inRange(1, checkpoints_max + 1);
  for (int checkpoint = 0; checkpoint < checkpoints; ++checkpoint) {
    for (const Message message : {Message::checkpoint_request, Message::vmstate_send}) {
      writer.message(message);
      written.events.push_back({Kind::message, static_cast<std::uint64_t>(message)});
    }
    const auto sections = *rc::gen::inRange(0, 4);
    for (int i = 0; i < sections; ++i) write_ram_section(writer, written, last_block);
    writer.end_sections();
    const auto state = any_bytes(*rc::gen::inRange<std::size_t>(1, 5000));
    writer.device_state(state);
    written.events.push_back({Kind::device_state_size, state.size()});
    written.events.push_back({Kind::device_state, 0, "", state});
    written.events.push_back({Kind::checkpoint_end});
    written.checkpoint_ends.push_back(written.stream.size());
  }
  return written;
}

/// Pieces of any size, from single bytes to many pages, that follow from one drawn number.
ChunkSize any_chunks() {
  const auto seed = *rc::gen::arbitrary<std::uint32_t>();
  const auto largest = *rc::gen::elementOf(std::vector<std::size_t>{1, 2, 9, 300, 5000, 50'000});
  // Single bytes copy the window once a byte, which takes long with pages.
  return [state = seed | 1, largest](std::size_t) mutable -> std::size_t {
    state = state * 1664525 + 1013904223;
    return 1 + (state >> 8) % largest;
  };
}

Outcome in_one_window(std::span<const std::byte> stream, ParserLimits limits = {}) {
  return feed_stream(
      stream, [&](std::size_t) { return stream.size(); }, limits);
}

struct EndCounter final : Sink {
  std::size_t ends = 0;
  void on_checkpoint_end() override { ++ends; }
};

RC_GTEST_PROP(ColoStreamProperty, AnythingWrittenIsParsedBackInAnyPieces, ()) {
  const auto written = any_stream();
  const bool stop_after_message = *rc::gen::arbitrary<bool>();
  const auto outcome = feed_stream(written.stream, any_chunks(), {}, stop_after_message);
  RC_ASSERT(!outcome.error);
  RC_ASSERT(outcome.idle);
  RC_ASSERT(outcome.consumed == written.stream.size());
  RC_ASSERT(outcome.events == written.events);
}

RC_GTEST_PROP(ColoStreamProperty, AReaderThatWaitsForBytesNeededGetsEverything, ()) {
  const auto written = any_stream();
  // The stream ends where it ends: had the parser ever asked for a byte too many, it would not be
  // idle.
  std::size_t received = 0;
  std::size_t consumed = 0;
  StreamParser parser;
  EventLog log;
  while (received < written.stream.size()) {
    received += parser.bytes_needed(received - consumed);
    RC_ASSERT(received <= written.stream.size());
    const auto parsed =
        parser.parse(std::span(written.stream).subspan(consumed, received - consumed), log);
    RC_ASSERT(parsed.has_value());
    consumed += *parsed;
  }
  RC_ASSERT(parser.idle());
  RC_ASSERT(log.events == written.events);
}

RC_GTEST_PROP(ColoStreamProperty, ATruncatedStreamNeverReportsTheCheckpointThatIsCut, ()) {
  const auto written = any_stream(2);
  const std::span<const std::byte> stream(written.stream);
  std::size_t whole_checkpoints = 0;
  for (std::size_t size = 0; size <= stream.size(); ++size) {
    if (std::ranges::find(written.checkpoint_ends, size) != written.checkpoint_ends.end()) {
      ++whole_checkpoints;
    }
    StreamParser parser;
    EndCounter counter;
    const auto parsed = parser.parse(stream.first(size), counter);
    RC_ASSERT(parsed.has_value());
    RC_ASSERT(counter.ends == whole_checkpoints);
    RC_ASSERT(parser.idle() == (size == 0 || *parsed == 0 ||
                                std::ranges::find(written.checkpoint_ends, *parsed) !=
                                    written.checkpoint_ends.end()));
  }
  RC_ASSERT(whole_checkpoints == written.checkpoint_ends.size());
}

RC_GTEST_PROP(ColoStreamProperty, ADamagedStreamIsTheSameInAnyPieces, ()) {
  auto written = any_stream(2);
  const auto damages = *rc::gen::inRange(1, 4);
  for (int i = 0; i < damages; ++i) {
    const auto at = *rc::gen::inRange<std::size_t>(0, written.stream.size());
    written.stream[at] = any_byte();
  }
  RC_ASSERT(feed_stream(written.stream, any_chunks()) == in_one_window(written.stream));
}

RC_GTEST_PROP(ColoStreamProperty, EveryUnknownOrRefusedFlagIsNamedByItsValue, ()) {
  const auto flag = std::uint64_t{1} << *rc::gen::elementOf(std::vector{0, 2, 6, 7, 8, 9, 10, 11});
  const auto others = *rc::gen::elementOf(std::vector<std::uint64_t>{0x00, 0x08, 0x28, 0x02, 0x22});
  auto written = any_stream(1);
  StreamWriter writer(written.stream);
  writer.message(Message::checkpoint_request);
  writer.message(Message::vmstate_send);
  writer.begin_section(2);
  const auto record_at = written.stream.size();
  writer.zero_page("", any_offset(ParserLimits{}.ram_bytes_max), std::byte{0});
  // The flags are the last twelve bits of the record's head.
  const auto flags = flag | others;
  written.stream[record_at + 7] = static_cast<std::byte>(flags);
  written.stream[record_at + 6] =
      (written.stream[record_at + 6] & std::byte{0xf0}) | static_cast<std::byte>(flags >> 8);

  const auto outcome = feed_stream(written.stream, any_chunks());
  RC_ASSERT(outcome.error.has_value());
  RC_ASSERT(outcome.error->code == Errc::protocol);
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "flag 0x%llx", static_cast<unsigned long long>(flag));
  RC_ASSERT(outcome.error->message.find(text.data()) != std::string::npos);
  RC_ASSERT(outcome.error->message.find("byte " + std::to_string(record_at) + ":") !=
            std::string::npos);
}

RC_GTEST_PROP(ColoStreamProperty, EveryDeviceStateBeyondTheLimitIsRefused, ()) {
  const ParserLimits limits{.device_state_bytes_max =
                                *rc::gen::inRange<std::uint64_t>(1, 1u << 20)};
  const auto excess = *rc::gen::inRange<std::uint64_t>(1, ~std::uint64_t{0} - (1u << 20));
  std::vector<std::byte> stream;
  StreamWriter writer(stream);
  writer.message(Message::checkpoint_request);
  writer.message(Message::vmstate_send);
  writer.end_sections();
  writer.device_state(any_bytes(1));
  std::uint64_t size = limits.device_state_bytes_max + excess;
  for (std::size_t at = stream.size() - 2; size != 0; --at, size >>= 8) {
    stream[at] = static_cast<std::byte>(size);
  }
  const auto outcome = feed_stream(stream, any_chunks(), limits);
  RC_ASSERT(outcome.error.has_value());
  RC_ASSERT(outcome.error->code == Errc::limit);
  RC_ASSERT(std::ranges::none_of(outcome.events, [](const Event& event) {
    return event.kind == Kind::device_state_size || event.kind == Kind::checkpoint_end;
  }));
}

RC_GTEST_PROP(ColoStreamProperty, EveryOffsetBeyondTheLimitIsRefused, ()) {
  const ParserLimits limits{.ram_bytes_max =
                                *rc::gen::inRange<std::uint64_t>(1, 1u << 20) * page_size};
  const auto excess = any_offset(~std::uint64_t{0} - limits.ram_bytes_max - page_size);
  std::vector<std::byte> stream;
  StreamWriter writer(stream);
  writer.message(Message::checkpoint_request);
  writer.message(Message::vmstate_send);
  writer.begin_section(2);
  writer.zero_page("", any_offset(limits.ram_bytes_max), std::byte{0});
  writer.page("pc.ram", limits.ram_bytes_max + excess, any_bytes(page_size));
  const auto outcome = feed_stream(stream, any_chunks(), limits);
  RC_ASSERT(outcome.error.has_value());
  RC_ASSERT(outcome.error->code == Errc::limit);
  RC_ASSERT(outcome.events.size() == 3u);
}

RC_GTEST_PROP(ColoStreamProperty, TheCountsOfSectionsAndRecordsAreLimited, ()) {
  const ParserLimits limits{.sections_max = *rc::gen::inRange<std::uint64_t>(1, 20),
                            .records_max = *rc::gen::inRange<std::uint64_t>(1, 20)};
  const auto sections = *rc::gen::inRange<std::uint64_t>(0, 25);
  const auto records = *rc::gen::inRange<std::uint64_t>(0, 25);
  std::vector<std::byte> stream;
  StreamWriter writer(stream);
  writer.message(Message::checkpoint_request);
  writer.message(Message::vmstate_send);
  for (std::uint64_t section = 0; section < sections; ++section) {
    writer.begin_section(2);
    for (std::uint64_t i = 0; section == 0 && i < records; ++i) {
      writer.zero_page("", 0, std::byte{0});
    }
    writer.end_section();
  }
  writer.end_sections();
  writer.device_state(any_bytes(10));
  const auto outcome = feed_stream(stream, any_chunks(), limits);
  const bool beyond =
      sections > limits.sections_max || (sections > 0 && records > limits.records_max);
  RC_ASSERT(outcome.error.has_value() == beyond);
  if (beyond) RC_ASSERT(outcome.error->code == Errc::limit);
}

RC_GTEST_PROP(ColoStreamProperty, AnErrorIsRepeatedWhateverFollows, ()) {
  auto written = any_stream(1);
  StreamParser parser;
  EventLog log;
  RC_ASSERT(parser.parse(written.stream, log).has_value());
  const auto bad = *rc::gen::suchThat(rc::gen::arbitrary<std::uint32_t>(),
                                      [](std::uint32_t value) { return value != 1; });
  std::vector<std::byte> message;
  for (int shift = 24; shift >= 0; shift -= 8)
    message.push_back(static_cast<std::byte>(bad >> shift));
  const auto first = parser.parse(message, log);
  RC_ASSERT(!first.has_value());
  const auto events = log.events.size();
  for (const auto size : {std::size_t{0}, std::size_t{4}, written.stream.size()}) {
    const auto again = parser.parse(std::span(written.stream).first(size), log);
    RC_ASSERT(!again.has_value());
    RC_ASSERT(again.error() == first.error());
  }
  RC_ASSERT(log.events.size() == events);
}

}  // namespace
}  // namespace tandem::colo
