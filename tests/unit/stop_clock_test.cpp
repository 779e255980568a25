// The pauses of a VM, counted; and the log of events.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "engine/daemon/event_log.hpp"
#include "engine/daemon/stop_clock.hpp"

namespace tandem::daemon {
namespace {

using namespace std::chrono_literals;

const StopClock::Time kBegin{std::chrono::seconds(1'000'000)};

void pause(StopClock& clock, std::chrono::milliseconds from, std::chrono::milliseconds length) {
  clock.stopped(kBegin + from);
  clock.resumed(kBegin + from + length);
}

TEST(StopClock, ANewClockHasSeenNothing) {
  StopClock clock;
  clock.restart(kBegin, false);
  EXPECT_EQ(clock.count(), 0u);
  EXPECT_EQ(clock.stopped_ratio(kBegin), 0.0);
  EXPECT_EQ(
      clock.to_json(),
      (nlohmann::json{{"count", 0}, {"mean", 0.0}, {"p50", 0.0}, {"p99", 0.0}, {"max", 0.0}}));
}

TEST(StopClock, MeasuresEachPauseInMilliseconds) {
  StopClock clock;
  clock.restart(kBegin, false);
  for (const int ms : {1, 2, 3, 4, 10}) pause(clock, ms * 100ms, ms * 1ms);
  const auto json = clock.to_json();
  EXPECT_EQ(json["count"], 5);
  EXPECT_DOUBLE_EQ(json["mean"], 4.0);
  EXPECT_DOUBLE_EQ(json["p50"], 3.0);
  EXPECT_DOUBLE_EQ(json["max"], 10.0);
}

TEST(StopClock, TheRatioIsTheShareOfTimeSinceTheRestart) {
  StopClock clock;
  clock.restart(kBegin, false);
  pause(clock, 100ms, 50ms);
  EXPECT_DOUBLE_EQ(clock.stopped_ratio(kBegin + 200ms), 0.25);
  clock.stopped(kBegin + 300ms);
  EXPECT_DOUBLE_EQ(clock.stopped_ratio(kBegin + 400ms), 150.0 / 400) << "a pause under way counts";
}

TEST(StopClock, AVmThatIsStoppedAtTheRestartHasBeenSoSinceThen) {
  StopClock clock;
  clock.stopped(kBegin - 10s);
  clock.restart(kBegin, true);
  EXPECT_DOUBLE_EQ(clock.stopped_ratio(kBegin + 100ms), 1.0);
  clock.resumed(kBegin + 100ms);
  EXPECT_DOUBLE_EQ(clock.to_json()["max"], 100.0);
}

TEST(StopClock, RepeatedEventsDoNotCountTwice) {
  StopClock clock;
  clock.restart(kBegin, false);
  clock.resumed(kBegin + 5ms);
  clock.stopped(kBegin + 10ms);
  clock.stopped(kBegin + 15ms);
  clock.resumed(kBegin + 20ms);
  clock.resumed(kBegin + 25ms);
  EXPECT_EQ(clock.count(), 1u);
  EXPECT_DOUBLE_EQ(clock.to_json()["max"], 10.0);
}

TEST(StopClock, KeepsTheNewestPausesForPercentilesAndAllForTheRest) {
  StopClock clock;
  clock.restart(kBegin, false);
  pause(clock, 0ms, 500ms);
  for (int i = 1; i <= 5000; ++i) pause(clock, i * 1000ms, 2ms);
  const auto json = clock.to_json();
  EXPECT_EQ(json["count"], 5001);
  EXPECT_DOUBLE_EQ(json["p99"], 2.0) << "the long one is too old";
  EXPECT_DOUBLE_EQ(json["max"], 500.0);
}

TEST(StopClock, PercentilesAreThoseOfThePausesThatAreKept) {
  StopClock clock;
  clock.restart(kBegin, false);
  std::vector<double> all;
  std::mt19937 random(1);
  std::uniform_int_distribution<int> length(0, 50);
  for (int i = 0; i < 9000; ++i) {
    all.push_back(length(random));
    pause(clock, i * 1000ms, std::chrono::milliseconds(static_cast<int>(all.back())));
  }
  all.erase(all.begin(), all.end() - 4096);
  std::ranges::sort(all);
  EXPECT_DOUBLE_EQ(clock.to_json()["p50"], all[2047]);
  EXPECT_DOUBLE_EQ(clock.to_json()["p99"], all[4054]);
}

TEST(StopClock, TheTimeThatWasSpentIsKeptThroughRestarts) {
  StopClock clock;
  EXPECT_EQ(clock.spent(kBegin).running, 0s) << "there is no process yet";
  clock.restart(kBegin, false);
  pause(clock, 1s, 250ms);
  clock.restart(kBegin + 2s, false);
  clock.stopped(kBegin + 3s);
  const auto spent = clock.spent(kBegin + 4s);
  EXPECT_DOUBLE_EQ(spent.running.count(), 2.75);
  EXPECT_DOUBLE_EQ(spent.stopped.count(), 1.25);
}

TEST(StopClock, NoTimeIsSpentWithoutAProcess) {
  StopClock clock;
  clock.restart(kBegin, false);
  clock.halt(kBegin + 1s);
  EXPECT_DOUBLE_EQ(clock.spent(kBegin + 9s).running.count(), 1.0);
  clock.restart(kBegin + 10s, true);
  EXPECT_DOUBLE_EQ(clock.spent(kBegin + 12s).running.count(), 1.0);
  EXPECT_DOUBLE_EQ(clock.spent(kBegin + 12s).stopped.count(), 2.0);
}

TEST(StopClock, AWallClockThatIsSetBackTakesNoTimeAway) {
  StopClock clock;
  clock.restart(kBegin, false);
  clock.stopped(kBegin + 5s);
  clock.resumed(kBegin - 100s);
  EXPECT_DOUBLE_EQ(clock.spent(kBegin - 99s).running.count(), 6.0);
  EXPECT_DOUBLE_EQ(clock.spent(kBegin - 99s).stopped.count(), 0.0);
  EXPECT_DOUBLE_EQ(clock.to_json()["mean"], 0.0) << "and no pause is shorter than nothing";
}

TEST(StopClock, APauseIsToldWhenItEnds) {
  StopClock clock;
  clock.restart(kBegin, false);
  EXPECT_FALSE(clock.resumed(kBegin));
  clock.stopped(kBegin);
  EXPECT_EQ(clock.resumed(kBegin + 7ms), StopClock::Milliseconds(7));
}

/// Every event is also a line in the daemon's log, which is of no interest here.
class EventLogTest : public testing::Test {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::off); }
  void TearDown() override { spdlog::set_level(spdlog::level::info); }
};

TEST_F(EventLogTest, NumbersEventsFromOneAndReturnsThoseAfter) {
  EventLog log;
  EXPECT_EQ(log.last(), 0u);
  for (int i = 1; i <= 3; ++i) log.add("demo", "protected", std::to_string(i), {{"n", i}});
  const auto events = log.after(1);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].seq, 2u);
  EXPECT_EQ(events[1].message, "3");
  EXPECT_EQ(events[1].data["n"], 3);
  EXPECT_TRUE(log.after(3).empty());
  EXPECT_TRUE(log.after(UINT64_MAX).empty());
}

TEST_F(EventLogTest, KeepsTheNewest) {
  EventLog log(10);
  for (int i = 1; i <= 25; ++i) log.add("", "t", "", {});
  const auto events = log.after(0);
  ASSERT_EQ(events.size(), 10u);
  EXPECT_EQ(events.front().seq, 16u);
  EXPECT_EQ(events.back().seq, 25u);
  EXPECT_EQ(log.last(), 25u);
}

TEST_F(EventLogTest, CountsEventsByTypeAndTypesThatHaveNotHappened) {
  EventLog log(2);
  for (int i = 0; i < 5; ++i) log.add("demo", "mode", "", {});
  auto counts = log.counts();
  EXPECT_EQ(counts["mode"], 5u);
  EXPECT_TRUE(counts.contains("peer-lost"));
  EXPECT_EQ(counts["peer-lost"], 0u);
}

TEST_F(EventLogTest, DataIsAlwaysAnObject) {
  EventLog log;
  log.add("demo", "t", "m", 42);
  EXPECT_EQ(log.after(0)[0].data, nlohmann::json::object());
  const auto json = to_json(log.after(0)[0]);
  EXPECT_EQ(json["vm"], "demo");
  EXPECT_EQ(json["seq"], 1);
  EXPECT_TRUE(json["time"].is_number_float());
}

TEST_F(EventLogTest, TellsOfEveryNewEventFromAnyThread) {
  EventLog log(100);
  std::atomic<int> told = 0;
  log.on_new([&] { ++told; });
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) log.add("", "t", "", {});
      });
    }
  }
  EXPECT_EQ(told, 200);
  EXPECT_EQ(log.last(), 200u);
  const auto events = log.after(0);
  ASSERT_EQ(events.size(), 100u);
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].seq, 101 + i);
  log.on_new({});
  log.add("", "t", "", {});
  EXPECT_EQ(told, 200);
}

}  // namespace
}  // namespace tandem::daemon
