// The arbiter in a shared folder: real files, real threads, real processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <thread>

#include "engine/arbiter/decision.hpp"
#include "engine/arbiter/local.hpp"
#include "tests/unit/run_task.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::arbiter {
namespace {

using test::result_of;
using testing::HasSubstr;

constexpr int kRounds = 200;

class LocalArbiterTest : public testing::Test {
 protected:
  std::uint64_t establish(const std::string& primary, const std::string& secondary) {
    const auto generation = result_of(arbiter_.establish("demo", primary, secondary));
    if (!generation) throw ErrorException(generation.error());
    return *generation;
  }
  [[nodiscard]] std::filesystem::path record() const { return folder_.path() / "demo.json"; }

  test::TemporaryFolder folder_;
  LocalArbiter arbiter_{folder_.path()};
};

TEST_F(LocalArbiterTest, KeepsItsWordAcrossRestarts) {
  const auto generation = establish("alpha", "beta");
  LocalArbiter of_beta(folder_.path()), of_alpha(folder_.path());
  const auto granted = result_of(of_beta.claim_solo("demo", generation, "beta"));
  ASSERT_TRUE(granted);
  EXPECT_TRUE(granted->granted);
  const auto denied = result_of(of_alpha.claim_solo("demo", generation, "alpha"));
  ASSERT_TRUE(denied);
  EXPECT_FALSE(denied->granted);
  EXPECT_EQ(denied->holder, "beta");
  const auto seen = result_of(of_alpha.look("demo"));
  ASSERT_TRUE(seen);
  ASSERT_TRUE(*seen);
  EXPECT_EQ((*seen)->solo, "beta");
}

TEST_F(LocalArbiterTest, KnowsNothingOfAPairThatWasNeverEstablished) {
  const auto seen = result_of(arbiter_.look("demo"));
  ASSERT_TRUE(seen);
  EXPECT_FALSE(*seen);
  const auto verdict = result_of(arbiter_.claim_solo("demo", 0, "alpha"));
  ASSERT_TRUE(verdict);
  EXPECT_FALSE(verdict->granted);
  EXPECT_TRUE(result_of(arbiter_.retire("demo", "alpha"))) << "nothing to retire is no error";
}

TEST_F(LocalArbiterTest, RetiresAndEstablishesAgain) {
  const auto generation = establish("alpha", "beta");
  ASSERT_TRUE(result_of(arbiter_.claim_solo("demo", generation, "beta")));
  EXPECT_EQ(result_of(arbiter_.retire("demo", "alpha")).error().code, Errc::conflict);
  ASSERT_TRUE(result_of(arbiter_.retire("demo", "beta")));
  EXPECT_GT(establish("alpha", "beta"), generation + 1);
}

TEST_F(LocalArbiterTest, ATornRecordIsAnErrorAndNobodyIsGranted) {
  const auto generation = establish("alpha", "beta");
  const auto whole = to_json(**result_of(arbiter_.look("demo")));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    test::write_text(record(), std::string_view(whole).substr(0, length));
    const auto verdict = result_of(arbiter_.claim_solo("demo", generation, "beta"));
    ASSERT_FALSE(verdict) << "a record of " << length << " bytes";
    EXPECT_THAT(verdict.error().message, HasSubstr(record().string()));
    EXPECT_FALSE(result_of(arbiter_.establish("demo", "alpha", "beta")));
    EXPECT_FALSE(result_of(arbiter_.look("demo")));
    EXPECT_FALSE(result_of(arbiter_.retire("demo", "beta")));
  }
  test::write_text(record(), whole);
  EXPECT_TRUE(result_of(arbiter_.claim_solo("demo", generation, "beta"))->granted);
}

TEST_F(LocalArbiterTest, GarbageAndAnOversizeRecordAreErrors) {
  const auto generation = establish("alpha", "beta");
  for (const auto& text : {std::string("\x00\xff\x7f garbage", 12), std::string(2u << 20, 'x')}) {
    test::write_text(record(), text);
    EXPECT_FALSE(result_of(arbiter_.claim_solo("demo", generation, "beta")));
  }
}

TEST_F(LocalArbiterTest, AFolderThatIsGoneIsAnErrorThatNamesIt) {
  LocalArbiter lost(folder_.path() / "gone");
  const auto verdict = result_of(lost.claim_solo("demo", 1, "alpha"));
  ASSERT_FALSE(verdict);
  EXPECT_THAT(verdict.error().message, HasSubstr((folder_.path() / "gone").string()));
}

TEST_F(LocalArbiterTest, OneOfManyThreadsIsGrantedInEveryRound) {
  // Half of the contenders are one member, half the other, each with its own arbiter object.
  constexpr int contenders = 6;
  std::barrier start(contenders + 1), finish(contenders + 1);
  std::uint64_t generation = 0;
  std::array<std::atomic<int>, 2> grants{};
  std::atomic<int> failures = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < contenders; ++i) {
    threads.emplace_back([&, i] {
      LocalArbiter mine(folder_.path());
      const std::string host = i % 2 == 0 ? "alpha" : "beta";
      for (int round = 0; round < kRounds; ++round) {
        start.arrive_and_wait();
        const auto verdict = result_of(mine.claim_solo("demo", generation, host));
        if (!verdict) ++failures;
        if (verdict && verdict->granted) ++grants[static_cast<std::size_t>(i % 2)];
        finish.arrive_and_wait();
      }
    });
  }
  std::string holder = "alpha";
  for (int round = 0; round < kRounds; ++round) {
    generation = establish(holder, holder == "alpha" ? "beta" : "alpha");
    grants[0] = grants[1] = 0;
    start.arrive_and_wait();
    finish.arrive_and_wait();
    // The holder's own contenders all get the same answer; the other member's get none.
    EXPECT_EQ(std::min(grants[0], grants[1]), 0) << "both members were granted in round " << round;
    EXPECT_EQ(std::max(grants[0], grants[1]), contenders / 2) << "round " << round;
    holder = grants[0] > 0 ? "alpha" : "beta";
  }
  EXPECT_EQ(failures, 0);
}

TEST_F(LocalArbiterTest, OneOfTwoProcessesIsGrantedInEveryRound) {
  for (int round = 0; round < kRounds; ++round) {
    const auto pair = "pair" + std::to_string(round);
    const auto generation = *result_of(arbiter_.establish(pair, "alpha", "beta"));
    int gate[2];
    ASSERT_EQ(::pipe(gate), 0);
    std::vector<pid_t> children;
    for (const char* host : {"alpha", "beta"}) {
      const pid_t child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        char byte;
        ::close(gate[1]);
        // Both wait for the same end of file, so that they ask at the same moment.
        if (::read(gate[0], &byte, 1) != 0) ::_exit(3);
        LocalArbiter mine(folder_.path());
        const auto verdict = result_of(mine.claim_solo(pair, generation, host));
        ::_exit(!verdict ? 2 : verdict->granted ? 1 : 0);
      }
      children.push_back(child);
    }
    ::close(gate[0]);
    ::close(gate[1]);
    int granted = 0;
    for (const pid_t child : children) {
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFEXITED(status));
      ASSERT_LE(WEXITSTATUS(status), 1);
      granted += WEXITSTATUS(status);
    }
    ASSERT_EQ(granted, 1) << "round " << round;
  }
}

}  // namespace
}  // namespace tandem::arbiter
