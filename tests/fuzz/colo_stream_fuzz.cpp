// libFuzzer target: the COLO stream parser on any bytes in any pieces.
//
// The first four bytes of an input decide how the rest is cut. Checked: a cut stream reports the
// same events and the same error as one window, with and without a pause behind messages; nothing
// is read beyond a window (each is a heap block of its own, so AddressSanitizer sees it); and what
// was parsed, written again, parses to the same.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/big_endian.hpp"
#include "engine/colo/event_log.hpp"
#include "engine/colo/stream_writer.hpp"

namespace {

using namespace tandem::colo;
using Kind = Event::Kind;

// Small enough for the fuzzer to reach every one of them.
constexpr ParserLimits limits{.device_state_bytes_max = 4096,
                              .sections_max = 4,
                              .records_max = 64,
                              .ram_bytes_max = std::uint64_t{1} << 40};

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

ChunkSize chunks_from(std::uint32_t seed) {
  if (seed % 8 == 0) return [](std::size_t needed) { return needed; };
  // Short pieces for the heads, and longer ones that get through pages.
  const std::uint32_t largest = seed % 8 < 4 ? 16 : 6000;
  return [state = seed, largest](std::size_t) mutable -> std::size_t {
    state = state * 1664525 + 1013904223;
    return 1 + (state >> 8) % largest;
  };
}

std::vector<std::byte> write_again(const std::vector<Event>& events) {
  std::vector<std::byte> out;
  StreamWriter writer(out);
  for (const Event& event : events) {
    switch (event.kind) {
      case Kind::message: {
        const auto message = static_cast<Message>(event.value);
        writer.message(message);
        if (message == Message::vmstate_send) writer.begin_section(2);
        break;
      }
      case Kind::page:
        writer.page(event.block, event.value, event.bytes);
        break;
      case Kind::zero_page:
        writer.zero_page(event.block, event.value, event.bytes.at(0));
        break;
      case Kind::device_state_size:
        writer.end_section();
        writer.end_sections();
        break;
      case Kind::device_state:
        writer.device_state(event.bytes);
        break;
      case Kind::checkpoint_end:
        break;
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  const auto input = std::as_bytes(std::span(data, size));
  const auto seed = tandem::load_be<std::uint32_t>(input.data());
  const auto stream = input.subspan(4);
  const ChunkSize all_at_once = [&](std::size_t) { return stream.size(); };

  const Outcome whole = feed_stream(stream, all_at_once, limits);
  const Outcome cut = feed_stream(stream, chunks_from(seed), limits, seed % 2 == 1);
  require(cut == whole, "a cut stream reports the same as one window");

  std::size_t end = whole.events.size();
  while (end > 0 && whole.events[end - 1].kind != Kind::checkpoint_end) --end;
  const std::vector<Event> complete(whole.events.begin(),
                                    whole.events.begin() + static_cast<std::ptrdiff_t>(end));
  const std::vector<std::byte> again = write_again(complete);
  const Outcome reparsed = feed_stream(
      again, [&](std::size_t) { return again.size(); }, limits);
  require(!reparsed.error && reparsed.idle && reparsed.events == complete,
          "what was parsed, written again, parses to the same");
  return 0;
}
