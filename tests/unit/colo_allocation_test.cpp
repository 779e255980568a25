// The parser allocates nothing for the pages it reports: a program of its own, for it replaces
// operator new.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "engine/colo/stream_writer.hpp"

namespace {
std::size_t allocations = 0;
}  // namespace

// Not inlined, or g++ takes the free() below for one that does not match its operator new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace tandem::colo {
namespace {

struct CountingSink final : Sink {
  std::size_t pages = 0;
  std::size_t device_state_bytes = 0;
  std::size_t checkpoints = 0;
  void on_page(std::string_view, std::uint64_t, std::span<const std::byte>) override { ++pages; }
  void on_zero_page(std::string_view, std::uint64_t, std::byte) override { ++pages; }
  void on_device_state(std::span<const std::byte> bytes) override {
    device_state_bytes += bytes.size();
  }
  void on_checkpoint_end() override { ++checkpoints; }
};

TEST(ColoParserAllocation, CountsAllocationsAtAll) {
  const std::size_t before = allocations;
  const std::vector<int> something(3);
  EXPECT_EQ(allocations, before + 1);
  EXPECT_EQ(something.size(), 3u);
}

TEST(ColoParserAllocation, NothingAPageAndNothingACheckpoint) {
  constexpr std::size_t checkpoints = 4;
  constexpr std::size_t pages = 8700;
  std::vector<std::byte> stream;
  StreamWriter writer(stream);
  const std::vector<std::byte> page(page_size, std::byte{1});
  for (std::size_t checkpoint = 0; checkpoint < checkpoints; ++checkpoint) {
    writer.message(Message::checkpoint_request);
    writer.message(Message::vmstate_send);
    writer.begin_section(2);
    for (std::size_t i = 0; i < pages; ++i) {
      // Names that are too long for a std::string's own memory, and that change often.
      const std::string_view block =
          i % 3 == 0 ? "/rom@etc/acpi/tables-and-more" : "0000:00:02.0/vga.vram-and-much-more";
      if (i % 10 == 0) {
        writer.zero_page(block, i * page_size, std::byte{0});
      } else {
        writer.page(block, i * page_size, page);
      }
    }
    writer.end_section();
    writer.end_sections();
    writer.device_state(std::vector<std::byte>(58'613));
  }

  StreamParser parser;
  CountingSink sink;
  // Windows of an odd size, so that elements are cut everywhere.
  constexpr std::size_t window_bytes = 65'521;
  std::size_t consumed = 0;
  bool failed = false;
  const std::size_t before = allocations;
  while (consumed < stream.size() && !failed) {
    const auto rest = std::span<const std::byte>(stream).subspan(consumed);
    const auto parsed = parser.parse(rest.first(std::min(window_bytes, rest.size())), sink);
    failed = !parsed || *parsed == 0;
    if (!failed) consumed += *parsed;
  }
  const std::size_t after = allocations;
  EXPECT_FALSE(failed);
  EXPECT_EQ(after, before);
  EXPECT_EQ(sink.pages, pages * checkpoints);
  EXPECT_EQ(sink.device_state_bytes, 58'613 * checkpoints);
  EXPECT_EQ(sink.checkpoints, checkpoints);
}

}  // namespace
}  // namespace tandem::colo
