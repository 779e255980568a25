// What a stream_parser reported, kept and comparable: for tests, fuzzing and tools, not for the
// data path.
//
// feed_stream presents a stream the way a reader would, cut into any pieces, and checks on the way
// what the parser promises about windows: it throws std::logic_error if the parser breaks a
// promise.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/colo/stream_parser.hpp"

namespace tandem::colo {

struct Event {
  enum class Kind { message, page, zero_page, device_state_size, device_state, checkpoint_end };

  Kind kind;
  std::uint64_t value = 0;  ///< the message, the page's offset, or the device state's size
  std::string block = {};   ///< of a page
  std::vector<std::byte> bytes = {};  ///< the page, its fill byte, or the whole device state

  friend bool operator==(const Event&, const Event&) = default;
};

/// Keeps every event; the pieces of a device state become one.
class EventLog final : public Sink {
 public:
  std::vector<Event> events;

  void on_message(Message message) override {
    events.push_back({Event::Kind::message, static_cast<std::uint64_t>(message)});
  }
  void on_page(std::string_view block, std::uint64_t offset,
               std::span<const std::byte> bytes) override {
    events.push_back({Event::Kind::page, offset, std::string(block), {bytes.begin(), bytes.end()}});
  }
  void on_zero_page(std::string_view block, std::uint64_t offset, std::byte fill) override {
    events.push_back({Event::Kind::zero_page, offset, std::string(block), {fill}});
  }
  void on_device_state_size(std::uint64_t size) override {
    events.push_back({Event::Kind::device_state_size, size});
  }
  void on_device_state(std::span<const std::byte> bytes) override {
    if (events.empty() || events.back().kind != Event::Kind::device_state) {
      events.push_back({Event::Kind::device_state});
    }
    events.back().bytes.insert(events.back().bytes.end(), bytes.begin(), bytes.end());
  }
  void on_checkpoint_end() override { events.push_back({Event::Kind::checkpoint_end}); }
};

struct Outcome {
  std::vector<Event> events;
  std::optional<Error> error = {};
  bool idle = false;         ///< the stream ended between checkpoints
  std::size_t consumed = 0;  ///< bytes; 0 if there was an error, whose message says where it is

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

/// How many bytes the next read yields, at least 1, when the parser says that it needs `needed`.
using ChunkSize = std::function<std::size_t(std::size_t needed)>;

/// Reads all of `stream` in pieces. Each window is a heap block of exactly its own size, so that an
/// address sanitizer sees any read beyond it.
inline Outcome feed_stream(std::span<const std::byte> stream, const ChunkSize& chunk_size,
                           ParserLimits limits = {}, bool stop_after_message = false) {
  StreamParser parser(limits);
  EventLog log;
  Outcome outcome;
  std::size_t received = 0;
  while (received < stream.size() && !outcome.error) {
    const std::size_t left_over = received - outcome.consumed;
    const std::size_t needed = parser.bytes_needed(left_over);
    if (needed == 0 || left_over + needed > element_bytes_max) {
      throw std::logic_error("bytes_needed is outside of its bounds");
    }
    const std::size_t chunk = std::min(chunk_size(needed), stream.size() - received);
    received += chunk;
    bool again = true;
    while (again) {
      const auto unread = stream.subspan(outcome.consumed, received - outcome.consumed);
      const std::vector<std::byte> window(unread.begin(), unread.end());
      const std::size_t events_before = log.events.size();
      const auto parsed = parser.parse(window, log, stop_after_message);
      if (!parsed) {
        outcome.error = parsed.error();
        EventLog nothing;
        const auto repeated = parser.parse(window, nothing);
        if (repeated || repeated.error() != parsed.error() || !nothing.events.empty()) {
          throw std::logic_error("the parser did not repeat its error");
        }
        break;
      }
      if (*parsed > window.size()) throw std::logic_error("more was consumed than there was");
      if (*parsed == 0 && log.events.size() != events_before) {
        throw std::logic_error("an event was reported for bytes that were not consumed");
      }
      outcome.consumed += *parsed;
      // A pause behind a message leaves bytes that may be whole elements.
      again = stop_after_message && *parsed != 0;
    }
    if (chunk < needed && outcome.consumed != received - chunk - left_over) {
      throw std::logic_error("something was consumed with fewer bytes than bytes_needed asked for");
    }
  }
  if (outcome.error) outcome.consumed = 0;
  outcome.events = std::move(log.events);
  outcome.idle = parser.idle();
  return outcome;
}

}  // namespace tandem::colo
