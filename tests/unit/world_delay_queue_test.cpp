// The long and lossy path of the experiments.
#include <gtest/gtest.h>

#include <array>
#include <initializer_list>
#include <vector>

#include "experiments/world/delay_queue.hpp"

namespace tandem::world {
namespace {

using namespace std::chrono_literals;
using Time = DelayQueue::Time;
using Frame = std::vector<std::byte>;

const Time start{1000s};

Frame frame(std::initializer_list<int> bytes) {
  Frame made;
  for (const int byte : bytes) made.push_back(static_cast<std::byte>(byte));
  return made;
}

Frame front(const DelayQueue& queue, Time now) {
  const auto bytes = queue.front(now);
  return {bytes.begin(), bytes.end()};
}

TEST(DelayQueue, HoldsEachFrameForItsTimeAndKeepsTheOrder) {
  DelayQueue queue({.delay = 50ms});
  EXPECT_EQ(queue.due(), std::nullopt);
  queue.push(frame({1}), start);
  queue.push(frame({2}), start + 10ms);
  EXPECT_EQ(queue.due(), start + 50ms);
  EXPECT_TRUE(queue.front(start + 49ms).empty());
  EXPECT_EQ(front(queue, start + 50ms), frame({1}));
  queue.pop();
  EXPECT_TRUE(queue.front(start + 59ms).empty());
  EXPECT_EQ(front(queue, start + 60ms), frame({2}));
  queue.pop();
  EXPECT_EQ(queue.due(), std::nullopt);
}

std::vector<int> survivors(std::uint64_t seed, double loss, int frames) {
  DelayQueue queue({.loss = loss, .seed = seed});
  std::vector<int> passed;
  for (int i = 0; i < frames; ++i) {
    queue.push(frame({1}), start);
    if (queue.front(start).empty()) continue;
    passed.push_back(i);
    queue.pop();
  }
  EXPECT_EQ(queue.counters().frames, static_cast<std::uint64_t>(frames));
  EXPECT_EQ(queue.counters().lost, static_cast<std::uint64_t>(frames) - passed.size());
  return passed;
}

TEST(DelayQueue, LosesItsShareAndTheSameForTheSameSeed) {
  EXPECT_EQ(survivors(1, 0, 1000).size(), 1000U);
  EXPECT_EQ(survivors(1, 1, 1000).size(), 0U);
  EXPECT_NEAR(static_cast<double>(survivors(1, 0.1, 10000).size()), 9000, 150);
  EXPECT_EQ(survivors(5, 0.1, 1000), survivors(5, 0.1, 1000));
  EXPECT_NE(survivors(5, 0.1, 1000), survivors(6, 0.1, 1000));
}

TEST(DelayQueue, DropsAndCountsWhatHasNoRoom) {
  DelayQueue queue({.delay = 1s, .bytes_max = 3});
  queue.push(frame({1, 2}), start);
  queue.push(frame({3, 4}), start);
  queue.push(frame({5}), start);
  EXPECT_EQ(queue.counters().dropped, 1U);
  queue.pop();
  EXPECT_EQ(front(queue, start + 1s), frame({5}));
  queue.push(frame({6, 7}), start);
  EXPECT_EQ(queue.counters().dropped, 1U) << "what has left makes room";
}

// An Ethernet frame with a TCP segment over IPv4 that has these options.
Frame segment(std::initializer_list<int> options) {
  Frame made(14 + 20 + 20);
  made[12] = std::byte{8};
  made[14] = std::byte{0x45};
  made[14 + 9] = std::byte{6};
  for (const int byte : options) made.push_back(static_cast<std::byte>(byte));
  while (made.size() % 4 != 2) made.push_back(std::byte{0});
  made[14 + 20 + 12] = static_cast<std::byte>((made.size() - 34) / 4 << 4U);
  return made;
}

TEST(CarriesSack, FindsTheOptionAndNothingElse) {
  const auto sack = segment({1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2});
  EXPECT_TRUE(carries_sack(sack));
  const auto behind_timestamps =
      segment({8, 10, 5, 5, 5, 5, 5, 5, 5, 5, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2});
  EXPECT_TRUE(carries_sack(behind_timestamps));
  EXPECT_FALSE(carries_sack(segment({})));
  EXPECT_FALSE(carries_sack(segment({4, 2})));  // "SACK permitted"
  EXPECT_FALSE(carries_sack(segment({8, 10, 5, 5, 5, 5, 5, 5, 5, 5})));
  EXPECT_FALSE(carries_sack(segment({0, 5, 10})));
  auto udp = sack;
  udp[14 + 9] = std::byte{17};
  EXPECT_FALSE(carries_sack(udp));
}

TEST(CarriesSack, ReadsNoByteBehindAFrameThatIsCutOrLies) {
  auto whole = segment({1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Frame cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(carries_sack(cut)) << size;
  }
  EXPECT_FALSE(carries_sack(segment({1, 1, 1, 5})));
  EXPECT_FALSE(carries_sack(segment({3, 0, 5, 10})));
  whole[14] = std::byte{0x4f};
  EXPECT_FALSE(carries_sack(whole));
}

}  // namespace
}  // namespace tandem::world
