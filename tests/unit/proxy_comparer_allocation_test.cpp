// The comparer allocates nothing a frame, and little a flow: a program of its own, for it replaces
// operator new.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdlib>
#include <new>

#include "proxy/comparer.hpp"
#include "tests/unit/packet_builder.hpp"

namespace {
std::size_t allocations = 0;
std::size_t live_bytes = 0;

void release(void* memory) noexcept {
  live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}
}  // namespace

// Not inlined, or g++ takes the free() below for one that does not match its operator new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  void* memory = std::malloc(size);
  if (!memory) throw std::bad_alloc();
  ++allocations;
  live_bytes += malloc_usable_size(memory);
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  release(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  release(memory);
}

namespace tandem::proxy {
namespace {

using namespace test;

TEST(ComparerAllocation, CountsAllocationsAtAll) {
  const std::size_t before = allocations;
  const std::size_t bytes = live_bytes;
  {
    const std::vector<int> something(3);
    EXPECT_EQ(allocations, before + 1);
    EXPECT_GE(live_bytes, bytes + 3 * sizeof(int));
  }
  EXPECT_EQ(live_bytes, bytes);
}

/// What both VMs send in one turn: segments cut differently, acknowledgements, datagrams.
struct Turn {
  Bytes primary;
  Bytes secondary;
};

Turn make_turn(std::uint32_t number) {
  Turn turn;
  const std::string payload = pattern(14'480);
  const std::uint32_t seq = 1000 + number * 14'480;
  const std::uint32_t ack = 2000 + number * 100;
  const auto cut = [&](Bytes& out, std::uint32_t size, std::uint32_t acknowledged) {
    for (std::uint32_t at = 0; at < payload.size(); at += size) {
      out += tcp({.seq = seq + at,
                  .ack = acknowledged,
                  .options = timestamp_option(number, 2),
                  .payload = payload.substr(at, size)});
    }
  };
  cut(turn.primary, 1448, ack + 100);
  cut(turn.secondary, 1300, ack);
  turn.secondary += tcp({.seq = seq + 14'480, .ack = ack + 100});
  for (std::uint16_t port = 1; port < 50; ++port) {
    const Bytes datagram = udp({.destination_port = port, .payload = "x"});
    const Bytes acknowledgement = tcp({.destination_port = port, .ack = ack});
    turn.primary += datagram + acknowledgement;
    turn.secondary += acknowledgement + datagram;
  }
  return turn;
}

TEST(ComparerAllocation, NothingAFrame) {
  std::vector<Turn> turns;
  for (std::uint32_t number = 0; number < 100; ++number) turns.push_back(make_turn(number));
  Comparer comparer;
  Comparer::Time now{std::chrono::hours(1)};
  Frames out;
  std::size_t before = 0;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    // What has not been seen before needs memory once.
    if (i == 20) before = allocations;
    now += std::chrono::milliseconds(1);
    const bool primary_first = i % 2 == 0;
    if (primary_first) comparer.primary(turns[i].primary, now);
    comparer.secondary(turns[i].secondary, now);
    if (!primary_first) comparer.primary(turns[i].primary, now);
    comparer.tick(now);
    comparer.take_released(out);
  }
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(comparer.waiting_frames(), 0u);
  EXPECT_FALSE(comparer.take_mismatch());
}

TEST(ComparerAllocation, AnIdleFlowTakesLessThan160Bytes) {
  constexpr std::uint32_t flows = 100'000;
  Comparer comparer;
  const Comparer::Time now{std::chrono::hours(1)};
  const std::size_t before = live_bytes;
  Frames out;
  for (std::uint32_t flow = 0; flow < flows; ++flow) {
    const Bytes frame =
        tcp({.destination_port = static_cast<std::uint16_t>(flow % 50'000), .payload = "x"},
            {.destination = "10.0.0." + std::to_string(flow / 50'000)});
    comparer.primary(frame, now);
    comparer.secondary(frame, now);
    comparer.take_released(out);
  }
  ASSERT_EQ(comparer.flows(), flows);
  EXPECT_LT((live_bytes - before) / flows, 160u);
}

}  // namespace
}  // namespace tandem::proxy
