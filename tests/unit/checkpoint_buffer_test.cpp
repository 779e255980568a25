// Memory for checkpoints, and their checksum.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <xxhash.h>

#include <cstring>
#include <random>

#include "engine/checkpoint/buffer.hpp"
#include "engine/checkpoint/digest.hpp"

namespace tandem::checkpoint {
namespace {

constexpr std::size_t kMiB = 1u << 20;
constexpr std::size_t kHugePage = 2 * kMiB;
/// As the buffer counts a period; more clears than this must give memory back.
constexpr int kTwoPeriods = 256;

void fill(Buffer& buffer, std::size_t size) {
  std::memset(buffer.tail().data(), 0x5a, size);
  buffer.extend(size);
}

/// Bytes of the buffer that the kernel has in memory.
std::size_t resident(const Buffer& buffer) {
  std::vector<unsigned char> pages(buffer.capacity() / 4096);
  auto* start = const_cast<std::byte*>(buffer.bytes().data());
  if (mincore(start, buffer.capacity(), pages.data()) != 0) ADD_FAILURE() << std::strerror(errno);
  std::size_t count = 0;
  for (const auto page : pages) count += page & 1u;
  return count * 4096;
}

std::unique_ptr<Buffer> make(std::size_t capacity) {
  auto buffer = Buffer::create(capacity);
  if (!buffer) throw ErrorException(buffer.error());
  return std::move(*buffer);
}

TEST(CheckpointBuffer, ReservesAddressesAndNotMemory) {
  const auto buffer = make(std::size_t{64} << 30);
  EXPECT_GE(buffer->capacity(), std::size_t{64} << 30);
  EXPECT_EQ(buffer->size(), 0u);
  EXPECT_EQ(buffer->resident(), 0u);
}

TEST(CheckpointBuffer, RefusesWhatTheSystemCannotReserve) {
  const auto buffer = Buffer::create(std::size_t{1} << 60);
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, Errc::limit);
}

TEST(CheckpointBuffer, GrowsByWhatWasWritten) {
  const auto buffer = make(kMiB);
  std::memcpy(buffer->tail().data(), "abc", 3);
  buffer->extend(2);
  EXPECT_EQ(buffer->size(), 2u);
  EXPECT_EQ(buffer->tail().size(), buffer->capacity() - 2);
  buffer->extend(1);
  EXPECT_EQ(std::memcmp(buffer->bytes().data(), "abc", 3), 0);
  buffer->clear();
  EXPECT_TRUE(buffer->bytes().empty());
}

TEST(CheckpointBuffer, StaysWarmFromOneCheckpointToTheNext) {
  const auto buffer = make(64 * kMiB);
  for (int i = 0; i < kTwoPeriods + 10; ++i) {
    fill(*buffer, 3 * kMiB);
    buffer->clear();
    ASSERT_GE(resident(*buffer), 3 * kMiB) << "after checkpoint " << i;
  }
}

TEST(CheckpointBuffer, GivesARareLargeCheckpointsMemoryBackAfterAWhile) {
  const auto buffer = make(64 * kMiB);
  fill(*buffer, 40 * kMiB);
  EXPECT_GE(resident(*buffer), 40 * kMiB);
  buffer->clear();
  fill(*buffer, kMiB);
  buffer->clear();
  EXPECT_GE(resident(*buffer), 40 * kMiB) << "not at once: the next may be as large";
  for (int i = 0; i < kTwoPeriods; ++i) {
    fill(*buffer, kMiB);
    buffer->clear();
  }
  EXPECT_LE(resident(*buffer), kHugePage);
  EXPECT_GE(resident(*buffer), kMiB) << "what is in use stays warm";
  EXPECT_LE(buffer->resident(), kHugePage);
}

TEST(CheckpointBuffer, IsAsGoodAsNewAfterGivingBack) {
  const auto buffer = make(16 * kMiB);
  fill(*buffer, 16 * kMiB);
  buffer->clear();
  for (int i = 0; i < kTwoPeriods; ++i) {
    fill(*buffer, 1);
    buffer->clear();
  }
  fill(*buffer, 16 * kMiB);
  EXPECT_EQ(buffer->size(), 16 * kMiB);
  EXPECT_EQ(buffer->bytes().back(), std::byte{0x5a});
}

TEST(CheckpointBufferPool, LendsNoMoreThanItHas) {
  const auto pool = *BufferPool::create(2, kMiB);
  auto first = pool->take();
  const auto second = pool->take();
  ASSERT_TRUE(first);
  ASSERT_TRUE(second);
  EXPECT_FALSE(pool->take());
  EXPECT_EQ(pool->available(), 0u);
  first.reset();
  EXPECT_EQ(pool->available(), 1u);
  EXPECT_TRUE(pool->take());
}

TEST(CheckpointBufferPool, LendsAReturnedBufferFirstAndCleared) {
  const auto pool = *BufferPool::create(3, kMiB);
  auto lease = pool->take();
  auto* const used = lease.get();
  fill(*lease, 100);
  lease.reset();
  const auto again = pool->take();
  EXPECT_EQ(again.get(), used) << "the warm one";
  EXPECT_EQ(again->size(), 0u);
}

TEST(CheckpointBufferPool, ALeaseOutlivesThePoolsOwner) {
  auto pool = *BufferPool::create(1, kMiB);
  auto lease = pool->take();
  pool.reset();
  fill(*lease, 10);
  EXPECT_EQ(lease->size(), 10u);
}

TEST(CheckpointDigest, EqualsTheOneShotHashHoweverItIsCut) {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(70'001);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  XXH128_canonical_t expected;
  XXH128_canonicalFromHash(&expected, XXH3_128bits(bytes.data(), bytes.size()));
  for (const std::size_t piece : {1u, 7u, 240u, 4096u, 70'001u}) {
    Digester digester;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      digester.update(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    }
    const auto digest = digester.finish();
    EXPECT_EQ(std::memcmp(digest.data(), expected.digest, digest.size()), 0) << piece;
  }
}

TEST(CheckpointDigest, OfNothingIsTheKnownValue) {
  // XXH3's published test vector: 128 bits, no input, seed 0.
  const Digest expected{std::byte{0x99}, std::byte{0xaa}, std::byte{0x06}, std::byte{0xd3},
                        std::byte{0x01}, std::byte{0x47}, std::byte{0x98}, std::byte{0xd8},
                        std::byte{0x60}, std::byte{0x01}, std::byte{0xc3}, std::byte{0x24},
                        std::byte{0x46}, std::byte{0x8d}, std::byte{0x49}, std::byte{0x7f}};
  EXPECT_EQ(Digester().finish(), expected);
}

}  // namespace
}  // namespace tandem::checkpoint
