// The parser against pieces of real streams: the seeds of tests/fuzz/corpus, see
// tests/fuzz/README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "engine/colo/event_log.hpp"

namespace tandem::colo {
namespace {

struct Seed {
  std::string name;
  std::vector<std::byte> stream;
};

std::vector<Seed> read_seeds() {
  std::vector<Seed> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(TANDEM_COLO_CORPUS)) {
    if (!entry.path().filename().string().starts_with("qemu-")) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> data(std::istreambuf_iterator<char>(file), {});
    // The first four bytes are the fuzz target's own.
    const auto bytes = std::as_bytes(std::span(data)).subspan(4);
    seeds.push_back({entry.path().filename().string(), {bytes.begin(), bytes.end()}});
  }
  return seeds;
}

TEST(ColoRecorded, EverySeedParsesToItsEndInAnyPieces) {
  const auto seeds = read_seeds();
  ASSERT_GE(seeds.size(), 3u) << "in " << TANDEM_COLO_CORPUS;
  for (const auto& [name, stream] : seeds) {
    SCOPED_TRACE(name);
    const auto whole = feed_stream(stream, [size = stream.size()](std::size_t) { return size; });
    EXPECT_EQ(whole.error, std::nullopt) << whole.error->message;
    EXPECT_TRUE(whole.idle);
    EXPECT_EQ(whole.consumed, stream.size());
    EXPECT_EQ(feed_stream(stream, [](std::size_t needed) { return needed; }), whole);
    EXPECT_EQ(feed_stream(stream, [](std::size_t) { return std::size_t{7}; }), whole);
  }
}

TEST(ColoRecorded, TheSeedsShowPagesZeroPagesAndNamedAndUnnamedBlocks) {
  std::set<std::string> blocks;
  std::set<Event::Kind> kinds;
  for (const auto& [name, stream] : read_seeds()) {
    for (const Event& event : feed_stream(stream, [](std::size_t n) { return n; }).events) {
      kinds.insert(event.kind);
      if (event.kind == Event::Kind::page) blocks.insert(event.block);
    }
  }
  EXPECT_EQ(kinds.size(), 6u);
  EXPECT_TRUE(blocks.contains(""));
  EXPECT_TRUE(blocks.contains("pc.ram"));
  EXPECT_TRUE(blocks.contains("0000:00:03.0/vga.vram"));
}

}  // namespace
}  // namespace tandem::colo
