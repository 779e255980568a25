// When a silent peer counts as lost.
#include <gtest/gtest.h>

#include "engine/session/failure_detector.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;

TEST(FailureDetector, APeerIsLostAfterAWholeTimeoutOfSilence) {
  FailureDetector detector(400ms, 50ms);
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(detector.tick()) << i;
  EXPECT_TRUE(detector.tick());
  EXPECT_TRUE(detector.tick()) << "and stays lost";
}

TEST(FailureDetector, AnySignOfLifeBeginsTheTimeoutAnew) {
  FailureDetector detector(400ms, 50ms);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 8; ++i) ASSERT_FALSE(detector.tick());
    detector.heard();
    EXPECT_EQ(detector.silent_ticks(), 0);
  }
}

TEST(FailureDetector, ItsOwnFreezeDoesNotCountAsSilence) {
  // A daemon that was stopped for an hour has ticked once in that hour. What the peer sent
  // meanwhile waits in the sockets and is heard before the next ticks are due.
  FailureDetector detector(400ms, 50ms);
  for (int i = 0; i < 7; ++i) ASSERT_FALSE(detector.tick());
  EXPECT_FALSE(detector.tick()) << "the one tick after the freeze";
  detector.heard();
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(detector.tick());
}

TEST(FailureDetector, ATimeoutShorterThanATickStillNeedsOne) {
  FailureDetector detector(10ms, 50ms);
  EXPECT_TRUE(detector.tick());
}

}  // namespace
}  // namespace tandem::session
