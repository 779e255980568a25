// `tandem replay`: what it says of a recording, and its exit status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/cli/output.hpp"
#include "engine/cli/replay_command.hpp"
#include "tests/unit/control_fixture.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::cli {
namespace {

using control::LoggedPair;
using controller::Policy;
using nlohmann::json;
using testing::HasSubstr;

class CliReplay : public testing::Test {
 protected:
  struct Ran {
    int status;
    std::string out, err;
  };

  CliReplay() {
    pair_.live(60);
    recording_ = pair_.recording();
  }
  [[nodiscard]] std::string file() const { return (folder_.path() / "web.recording").string(); }
  Ran replay(const PolicyChange& otherwise = {}, bool as_json = false) {
    test::write_text(file(), recording_);
    return replay_as_it_is(file(), otherwise, as_json);
  }
  static Ran replay_as_it_is(const std::string& file, const PolicyChange& otherwise = {},
                             bool as_json = false) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int status = replay_file(file, otherwise, as_json);
    auto out = testing::internal::GetCapturedStdout();
    return {status, std::move(out), testing::internal::GetCapturedStderr()};
  }
  /// Record number `seq` says something else.
  void falsify(std::uint64_t seq) {
    const auto at =
        recording_.find("\"due_s\":", recording_.find("\"epoch\":" + std::to_string(seq)) - 60);
    ASSERT_NE(at, std::string::npos);
    recording_.insert(at + 8, "7");
  }

  LoggedPair pair_{Policy::hybrid};
  std::string recording_;
  test::TemporaryFolder folder_;
};

TEST_F(CliReplay, TheSameDecisionsAreASuccess) {
  const auto ran = replay();
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_EQ(ran.err, "");
  EXPECT_THAT(ran.out, testing::MatchesRegex(
                           "web: 60 decisions in [0-9.]+ s, 0 changes of policy or parameters; "
                           "colo mode for [0-9.]+ % of the time\n"
                           "Every decision is the recorded one[.]\n"));
}

TEST_F(CliReplay, DifferencesAreListedAndAFailure) {
  falsify(5);
  const auto ran = replay();
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_THAT(ran.out, HasSubstr("1 decision is not the recorded one:\n  record 5: colo for "));
  EXPECT_THAT(ran.out, HasSubstr(" was recorded, now colo for 10.0 s (stay)\n"));
  EXPECT_EQ(ran.err, "tandem: " + file() + ": 1 decision is not what was recorded\n");
}

TEST_F(CliReplay, WhatIfIsNoFailureAndSaysThatItIsNoForecast) {
  const auto ran = replay({"periodic", {{"period_ms", 100}}});
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_EQ(ran.err, "");
  EXPECT_THAT(ran.out, HasSubstr("Policy periodic with period_ms=100 says: 0 changes of mode, colo "
                                 "mode for 0.0 % of the time\n"));
  EXPECT_THAT(ran.out, HasSubstr("other things would have been observed: it is no forecast."));
  EXPECT_THAT(ran.out, HasSubstr("60 decisions are not the recorded ones:\n"));
  EXPECT_THAT(ran.out, HasSubstr("now periodic for 100 ms (fixed)\n"));
  EXPECT_THAT(ran.out, HasSubstr("  and 40 more\n"));
  EXPECT_THAT(replay({"", {{"window_s", 20}}}).out, HasSubstr("The same policy with window_s=20"));
}

TEST_F(CliReplay, InJsonItIsOneObject) {
  auto answer = json::parse(replay({}, true).out);
  EXPECT_EQ(answer["vm"], "web");
  EXPECT_EQ(answer["policy"], "hybrid");
  EXPECT_EQ(answer["decisions"], 60);
  EXPECT_EQ(answer["differences"], 0);
  EXPECT_EQ(answer["otherwise"], json());
  EXPECT_TRUE(answer["first_differences"].empty());
  answer = json::parse(replay({"colo", {}}, true).out);
  EXPECT_EQ(answer["otherwise"], json({{"policy", "colo"}}));
  EXPECT_EQ(answer["first_differences"].at(0)["replayed"]["reason"], "fixed");
  falsify(7);
  const auto ran = replay({}, true);
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_EQ(json::parse(ran.out)["differences"], 1);
  EXPECT_THAT(ran.err, HasSubstr("1 decision is not what was recorded"));
}

TEST_F(CliReplay, WhatCannotBeReadIsNamed) {
  EXPECT_EQ(replay_as_it_is("/nonexistent/x").err,
            "tandem: cannot read /nonexistent/x: No such file or directory\n");
  EXPECT_THAT(replay_as_it_is(folder_.path()).err, HasSubstr("Is a directory"));
  recording_.resize(recording_.size() / 2);
  const auto ran = replay();
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_THAT(ran.err,
              testing::MatchesRegex("tandem: " + file() + ": line [0-9]+ is not a JSON object\n"));
  const auto in_json = replay({}, true);
  EXPECT_EQ(json::parse(in_json.out)["error"]["code"], "invalid-input");
}

}  // namespace
}  // namespace tandem::cli
