// What the pacer measures, and when it asks for a checkpoint. Real timers; what is asserted is what
// happens and in which order, not how long it takes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <thread>

#include "engine/session/pacer.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using controller::Parameters;
using controller::Policy;
using controller::Reason;
using Clock = std::chrono::steady_clock;

constexpr Parameters with_period(double period_ms) {
  Parameters parameters;
  parameters.period_ms = period_ms;
  parameters.checkpoint_rate_max = 100;
  return parameters;
}

class PacerTest : public testing::Test {
 protected:
  void make(Policy policy, const Parameters& parameters = with_period(20)) {
    pacer_.emplace(io_.get_executor(), policy, parameters);
    asio::co_spawn(io_, pacer_->run([this]() -> Task<void> {
      ++asked_;
      co_return;
    }),
                   asio::detached);
  }
  ~PacerTest() override {
    if (!pacer_) return;
    pacer_->stop();
    io_.run();
  }

  /// Serves timers until it has been asked so often; fails after ten seconds.
  void wait_until_asked(int times) {
    const auto give_up = Clock::now() + 10s;
    while (asked_ < times) {
      ASSERT_LT(Clock::now(), give_up) << "asked " << asked_ << " times";
      io_.run_one_for(10ms);
    }
  }
  /// Serves all that is due now.
  void serve() {
    while (io_.poll_one() > 0) continue;
  }
  nlohmann::json last_observation() {
    return pacer_->log().to_json(pacer_->log().last() - 1, 1)["records"][0]["observation"];
  }

  asio::io_context io_;
  std::optional<Pacer> pacer_;
  int asked_ = 0;
};

TEST_F(PacerTest, AsksWhenTheVmHasRunForThePeriod) {
  make(Policy::periodic);
  serve();
  EXPECT_EQ(asked_, 0) << "the VM does not run yet";
  const auto ran = Clock::now();
  pacer_->vm_runs(0);
  wait_until_asked(1);
  EXPECT_GE(Clock::now() - ran, 20ms);
}

TEST_F(PacerTest, AsksAgainUntilACheckpointBegins) {
  make(Policy::periodic);
  pacer_->vm_runs(0);
  wait_until_asked(3);
  EXPECT_TRUE(pacer_->checkpoint_wanted());
  EXPECT_EQ(pacer_->vm_stopped(1), Mode::periodic);
  EXPECT_FALSE(pacer_->checkpoint_wanted());
}

TEST_F(PacerTest, DoesNotAskWhileTheVmIsStopped) {
  make(Policy::periodic);
  pacer_->vm_runs(0);
  wait_until_asked(1);
  pacer_->vm_stopped(1);
  const auto give_up = Clock::now() + 100ms;
  while (Clock::now() < give_up) io_.run_one_for(10ms);
  EXPECT_EQ(asked_, 1);
}

TEST_F(PacerTest, AWishIsAskedForAtOnceAndOnlyOnce) {
  make(Policy::periodic, with_period(60'000));
  pacer_->vm_runs(0);
  pacer_->want_checkpoint();
  pacer_->want_checkpoint();
  wait_until_asked(1);
  serve();
  EXPECT_EQ(asked_, 1);
}

TEST_F(PacerTest, AWishThatComesDuringACheckpointIsAskedForWhenTheVmRuns) {
  make(Policy::periodic, with_period(60'000));
  pacer_->vm_runs(0);
  pacer_->vm_stopped(1);
  pacer_->want_checkpoint();
  serve();
  EXPECT_EQ(asked_, 0);
  pacer_->vm_runs(0);
  wait_until_asked(1);
}

TEST_F(PacerTest, APairThatIsToBeginInColoModeTakesItsFirstCheckpointAtOnce) {
  make(Policy::colo);
  pacer_->vm_runs(0);
  wait_until_asked(1);
  EXPECT_EQ(pacer_->vm_stopped(1), Mode::colo);
  EXPECT_EQ(last_observation()["mode"], "periodic") << "the first epoch is always periodic";
  EXPECT_EQ(last_observation()["pause_s"], 0) << "no checkpoint has stopped the VM yet";
}

TEST_F(PacerTest, AnObservationIsThePauseOfACheckpointAndTheEpochThatFollows) {
  make(Policy::colo);
  pacer_->vm_runs(0);
  pacer_->vm_stopped(1);
  std::this_thread::sleep_for(3ms);  // the pause
  pacer_->vm_runs(4096 * 7);
  pacer_->mismatched();
  std::this_thread::sleep_for(2ms);  // the epoch
  pacer_->vm_stopped(2);
  const auto seen = last_observation();
  EXPECT_EQ(seen["mode"], "colo");
  EXPECT_GE(seen["pause_s"].get<double>(), 0.003);
  EXPECT_GE(seen["uptime_s"].get<double>(), 0.002);
  EXPECT_EQ(seen["bytes"], 4096 * 7);
  EXPECT_EQ(seen["mismatches"], 1);
  pacer_->vm_runs(0);
  pacer_->vm_stopped(3);
  EXPECT_EQ(last_observation()["mismatches"], 0) << "that was the epoch before";
  EXPECT_EQ(pacer_->log().decisions(), 3u);
  EXPECT_EQ(pacer_->log().mode_changes(), 1u);
}

TEST_F(PacerTest, ThePauseLastsAsLongAsQemuSaysAndTheEpochIsShorterForIt) {
  make(Policy::periodic, with_period(60'000));
  pacer_->vm_runs(0);
  std::this_thread::sleep_for(3ms);
  const auto before = Clock::now();
  pacer_->vm_stopped(1);
  pacer_->vm_runs(0);
  const auto after = Clock::now();
  std::this_thread::sleep_for(3ms);
  // QEMU stopped its VM a moment earlier than is seen here, and let it run a moment later.
  const std::chrono::duration<double> said = after - before + 1ms;
  pacer_->vm_was_stopped(said);
  pacer_->vm_stopped(2);
  const std::chrono::duration<double> all = Clock::now() - before;
  const auto seen = last_observation();
  EXPECT_NEAR(seen["pause_s"].get<double>(), said.count(), 1e-9);
  EXPECT_LE(seen["uptime_s"].get<double>(), (all - said).count() + 1e-9);
}

TEST_F(PacerTest, APauseThatAClockMadeUpDoesNotCount) {
  make(Policy::periodic, with_period(60'000));
  pacer_->vm_runs(0);
  pacer_->vm_stopped(1);
  pacer_->vm_runs(0);
  pacer_->vm_was_stopped(3600s);
  pacer_->vm_stopped(2);
  EXPECT_LT(last_observation()["pause_s"].get<double>(), 3600);
  pacer_->vm_was_stopped(3600s);  // too late, too
  pacer_->vm_runs(0);
  pacer_->vm_stopped(3);
  EXPECT_LT(last_observation()["pause_s"].get<double>(), 3600);
}

TEST_F(PacerTest, AnotherPolicyTakesACheckpointOnlyIfTheModeIsToChange) {
  make(Policy::periodic, with_period(60'000));
  pacer_->vm_runs(0);
  pacer_->change(Policy::periodic, with_period(50'000));
  serve();
  EXPECT_FALSE(pacer_->checkpoint_wanted());
  pacer_->change(Policy::hybrid, with_period(60'000));
  EXPECT_TRUE(pacer_->checkpoint_wanted());
  wait_until_asked(1);
  EXPECT_EQ(pacer_->vm_stopped(1), Mode::colo);
}

TEST_F(PacerTest, APolicyThatChangesDuringAPauseTakesACheckpointWhenTheVmRuns) {
  make(Policy::periodic, with_period(60'000));
  pacer_->vm_runs(0);
  EXPECT_EQ(pacer_->vm_stopped(1), Mode::periodic);
  pacer_->change(Policy::colo, with_period(60'000));
  pacer_->vm_runs(0);
  wait_until_asked(1);
  EXPECT_EQ(pacer_->vm_stopped(2), Mode::colo);
}

TEST_F(PacerTest, ATimerThatHasFiredAsksForNothingOnceTheVmIsStopped) {
  make(Policy::periodic);
  pacer_->vm_runs(0);
  wait_until_asked(1);
  // It would ask again by now, but what stops the VM is served first.
  std::this_thread::sleep_for(600ms);
  asio::post(io_, [&] { pacer_->vm_stopped(1); });
  io_.run_one();
  pacer_->vm_runs(0);
  pacer_->vm_stopped(2);
  serve();
  EXPECT_EQ(asked_, 1);
  EXPECT_FALSE(pacer_->checkpoint_wanted());
}

TEST_F(PacerTest, AShorterPeriodCountsFromWhenTheVmRan) {
  make(Policy::periodic, with_period(60'000));
  pacer_->vm_runs(0);
  pacer_->change(Policy::periodic, with_period(20));
  wait_until_asked(1);
}

}  // namespace
}  // namespace tandem::session
