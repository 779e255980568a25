// The moving window, with numbers worked out by hand.
#include <gtest/gtest.h>

#include "controller/window.hpp"

namespace tandem::controller {
namespace {

Observation cycle(double time_s, double pause_s, double uptime_s) {
  return {.time_s = time_s, .pause_s = pause_s, .uptime_s = uptime_s};
}

TEST(ControllerWindow, TheDowntimeRatioIsAveragePauseOverAverageUptime) {
  Window window;
  window.add(cycle(0.26, 0.01, 0.25), 10);
  window.add(cycle(0.78, 0.02, 0.50), 10);
  window.add(cycle(1.06, 0.03, 0.25), 10);
  // Averages 0.02 s and 1/3 s. The average of the three ratios would be 0.0667.
  EXPECT_DOUBLE_EQ(window.downtime_ratio(), 0.06);
}

TEST(ControllerWindow, CheckpointsPerSecondAreCyclesOverTheTimeTheyTook) {
  Window window;
  window.add(cycle(0.26, 0.01, 0.25), 10);
  window.add(cycle(0.78, 0.02, 0.50), 10);
  window.add(cycle(1.06, 0.03, 0.25), 10);
  EXPECT_DOUBLE_EQ(window.checkpoints_per_second(), 3 / 1.06);
}

TEST(ControllerWindow, TheAverageUptimeLeavesPausesOut) {
  Window window;
  window.add(cycle(3, 2, 1), 10);
  window.add(cycle(5, 0, 2), 10);
  EXPECT_DOUBLE_EQ(window.average_uptime(), 1.5);
}

TEST(ControllerWindow, AnEmptyOneSaysZero) {
  const Window window;
  EXPECT_EQ(window.downtime_ratio(), 0);
  EXPECT_EQ(window.checkpoints_per_second(), 0);
  EXPECT_EQ(window.average_uptime(), 0);
}

TEST(ControllerWindow, ACycleCountsUntilItEndedLongerAgoThanTheWindow) {
  Window window;
  window.add(cycle(1, 0.5, 0.5), 10);
  window.add(cycle(11, 0, 10), 10);
  EXPECT_EQ(window.size(), 2u);
  EXPECT_DOUBLE_EQ(window.downtime_ratio(), 0.5 / 10.5);
  window.add(cycle(11.5, 0, 0.5), 10);
  EXPECT_EQ(window.size(), 2u);
  EXPECT_EQ(window.downtime_ratio(), 0);
}

TEST(ControllerWindow, TheLatestCycleAlwaysCounts) {
  Window window;
  window.add(cycle(100, 1, 60), 10);
  EXPECT_EQ(window.size(), 1u);
}

TEST(ControllerWindow, AClockThatGoesBackLeavesNothingBehindThatWouldNeverLeave) {
  Window window;
  window.add(cycle(1e300, 5, 1), 10);
  window.add(cycle(1, 0, 1), 10);
  EXPECT_EQ(window.size(), 1u);
  EXPECT_EQ(window.downtime_ratio(), 0);
}

TEST(ControllerWindow, AVmThatNeverRanHasTheGreatestRatioAndNotInfinity) {
  Window window;
  window.add(cycle(1, 1, 0), 10);
  EXPECT_EQ(window.downtime_ratio(), Window::downtime_ratio_max);
}

TEST(ControllerWindow, CyclesThatTookNextToNoTimeHaveTheGreatestRate) {
  Window window;
  window.add(cycle(1, 0, 5e-324), 10);
  EXPECT_EQ(window.checkpoints_per_second(), Window::rate_max);
}

TEST(ControllerWindow, KeepsTheLatestOfTooMany) {
  Window window;
  for (int i = 0; i < 2000; ++i) window.add(cycle(i, 0, i), 1e9);
  EXPECT_EQ(window.size(), Window::cycles_max);
  EXPECT_EQ(window.cycles().front().uptime_s, 2000 - 512);
  EXPECT_EQ(window.cycles().back().uptime_s, 1999);
  window.keep(2);
  EXPECT_DOUBLE_EQ(window.average_uptime(), 1998.5);
}

TEST(ControllerWindow, IsWhatItWasAfterARestore) {
  Window window;
  window.add(cycle(1, 0.25, 0.5), 10);
  window.add(cycle(2, 0.5, 0.25), 10);
  Window other;
  other.restore(window.cycles());
  EXPECT_EQ(other, window);
  other.clear();
  EXPECT_EQ(other, Window());
}

}  // namespace
}  // namespace tandem::controller
