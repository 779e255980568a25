// Any bytes, cut anyhow, as what QEMU's network filter sends: the gate gives back exactly the whole
// frames, in order, or calls the bytes malformed, however they were cut.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "proxy/chardev_framing.hpp"
#include "proxy/output_gate.hpp"

namespace {

using namespace tandem::proxy;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Passed {
  std::vector<std::byte> bytes;
  bool refused = false;
};

/// Feeds the bytes in pieces whose sizes follow from `seed` (0: one piece); every frame is an
/// epoch.
Passed pass(std::span<const std::byte> bytes, std::uint32_t seed) {
  FrameAssembler assembler;
  OutputGate gate;
  gate.hold();
  Passed passed;
  std::uint64_t epoch = 0;
  while (!bytes.empty()) {
    seed = seed == 0 ? 0 : seed * 1664525 + 1013904223;
    const auto size =
        seed == 0 ? bytes.size() : std::min<std::size_t>(bytes.size(), 1 + (seed >> 27));
    const auto frames = assembler.add(bytes.first(size));
    if (!frames) {
      passed.refused = true;
      break;
    }
    gate.capture(*frames);
    bytes = bytes.subspan(size);
    gate.close_epoch(epoch);
    gate.release_through(epoch++);
  }
  require(gate.held_frames() == 0 && gate.held_bytes() == 0);
  while (!gate.outbox().empty()) {
    const auto piece = gate.outbox().front();
    passed.bytes.insert(passed.bytes.end(), piece.begin(), piece.end());
    gate.outbox().consume(piece.size());
  }
  return passed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(4);
  const std::uint32_t seed = 1u | data[0] | (std::uint32_t{data[1]} << 8) |
                             (std::uint32_t{data[2]} << 16) | (std::uint32_t{data[3]} << 24);
  const auto whole = pass(bytes, 0);
  const auto cut = pass(bytes, seed);
  require(whole.refused == cut.refused);
  require(std::ranges::equal(cut.bytes, bytes.first(std::min(cut.bytes.size(), bytes.size()))));
  // Malformed bytes end what is accepted; in one piece that may be the frames before them, too.
  if (!whole.refused) require(whole.bytes == cut.bytes);
  const auto scan = FrameScanner::scan(bytes);
  require(bool(scan) == !whole.refused);
  if (scan) require(scan->complete == whole.bytes.size());
  return 0;
}
