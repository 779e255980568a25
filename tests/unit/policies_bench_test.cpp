// What the benchmark of policies makes of what it has seen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "experiments/bench/policies_bench_output.hpp"
#include "experiments/world/process.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::bench {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr Schedule schedule{.lead_s = 10, .phase_s = 40, .cycles = 2};

// A run of four phases with 10 requests a second; random replies take 100 ms, others 2 ms. The VM
// stands still for 1 % of the random phases, and for 0.1 % of the others.
PolicyRun run_of(const std::string& policy, int repeat = 1) {
  PolicyRun run;
  run.policy = policy;
  run.repeat = repeat;
  run.schedule = schedule;
  run.begin = survival::Time(1000s);
  for (int i = -100; i < 1600; ++i) {
    const bool random = schedule.replies_at(i / 10.0) == Replies::random;
    run.latencies.push_back({run.begin + i * 100ms, random ? 100ms : 2ms});
  }
  double stopped_ms = 50;
  for (int i = 0; i <= 4; ++i) {
    run.counted.push_back({40.0 * i, stopped_ms, static_cast<std::uint64_t>(100 * i)});
    stopped_ms += i % 2 == 0 ? 400 : 40;
  }
  return run;
}

void change(PolicyRun& run, double at_s, const std::string& mode, std::uint64_t checkpoint) {
  run.modes.push_back({at_s, mode, "reason", checkpoint, {{"sigma", 2}}});
}

// Follows the replies: stays of 27, 28 and 30 checkpoints in each random phase, and back in COLO
// mode 3 s after its end.
PolicyRun following(const std::string& policy, int repeat = 1) {
  auto run = run_of(policy, repeat);
  std::uint64_t checkpoint = 1;
  change(run, -9, "colo", checkpoint);
  for (const double phase : {0.0, 80.0}) {
    double at_s = phase + 2;
    for (const std::uint64_t stay : {27, 28, 30}) {
      change(run, at_s, "periodic", checkpoint);
      checkpoint += stay;
      change(run, at_s + 0.25 * static_cast<double>(stay), "colo", checkpoint);
      at_s += 0.25 * static_cast<double>(stay) + 1;
      checkpoint += 5;
    }
    change(run, at_s, "periodic", checkpoint);
    checkpoint += 60;
    change(run, phase + 43, "colo", checkpoint);
    checkpoint += 4;
  }
  return run;
}

Verdict verdict_about(const std::vector<PolicyRun>& runs, const std::string& words) {
  for (const auto& verdict : verdicts(runs))
    if (verdict.statement.find(words) != std::string::npos) return verdict;
  ADD_FAILURE() << "no verdict about " << words;
  return {};
}

TEST(PoliciesSchedule, TurnsRandomAndDeterministicAndBeginsWithALeadThatIsNotCounted) {
  EXPECT_EQ(schedule.counted_s(), 160);
  const auto spans = schedule.spans();
  ASSERT_EQ(spans.size(), 4U);
  EXPECT_EQ(spans[0].replies, Replies::random);
  EXPECT_EQ(spans[1].replies, Replies::deterministic);
  EXPECT_EQ(spans[3].to_s, 160);
  EXPECT_EQ(schedule.replies_at(-0.001), Replies::deterministic);
  EXPECT_EQ(schedule.replies_at(0), Replies::random);
  EXPECT_EQ(schedule.replies_at(39.999), Replies::random);
  EXPECT_EQ(schedule.replies_at(40), Replies::deterministic);
  EXPECT_EQ(schedule.replies_at(80), Replies::random);
  EXPECT_EQ(schedule.replies_at(160), Replies::deterministic) << "after the end";
}

TEST(PoliciesMeasure, CountsEachPhaseByItself) {
  auto run = following("hybrid");
  run.mismatches = {-5, 1, 2, 50, 79.9};
  const auto measured = measure(run);
  ASSERT_EQ(measured.phases.size(), 4U);
  const auto& random = measured.phases[0].part;
  EXPECT_EQ(random.latencies.replies, 400U);
  EXPECT_DOUBLE_EQ(random.latencies.p50_ms, 100);
  EXPECT_DOUBLE_EQ(random.stopped_ratio(), 0.01);
  EXPECT_EQ(random.checkpoints, 100U);
  EXPECT_EQ(random.mismatches, 2U);
  EXPECT_EQ(measured.phases[1].part.mismatches, 2U);
  EXPECT_DOUBLE_EQ(measured.phases[1].part.latencies.p99_ms, 2);
  EXPECT_DOUBLE_EQ(measured.phases[1].part.colo_share(), 37.0 / 40);
}

TEST(PoliciesMeasure, SumsUpWithoutTheLead) {
  const auto measured = measure(following("hybrid"));
  EXPECT_EQ(measured.all.latencies.replies, 1600U);
  EXPECT_EQ(measured.random.latencies.replies, 800U);
  EXPECT_EQ(measured.deterministic.latencies.replies, 800U);
  EXPECT_DOUBLE_EQ(measured.deterministic.stopped_ratio(), 0.001);
  EXPECT_DOUBLE_EQ(measured.all.stopped_ratio(), 0.0055);
  EXPECT_EQ(measured.all.checkpoints, 400U);
}

TEST(PoliciesMeasure, TakesTheStaysThatBeginAndEndInARandomPhase) {
  const auto measured = measure(following("hybrid"));
  std::vector<std::uint64_t> lengths;
  for (const auto& stay : measured.phases[2].stays) lengths.push_back(stay.checkpoints);
  EXPECT_THAT(lengths, ElementsAre(27, 28, 30));
  EXPECT_DOUBLE_EQ(measured.phases[0].stays[0].from_s, 2);
  EXPECT_DOUBLE_EQ(measured.phases[0].stays[0].to_s, 8.75);
}

TEST(PoliciesMeasure, IsBackInColoModeWhenItStaysThere) {
  auto run = run_of("hybrid");
  change(run, -9, "colo", 1);
  change(run, 5, "periodic", 2);
  // A trial at the phase's end runs into the next one, and fails there.
  change(run, 39, "colo", 30);
  change(run, 41, "periodic", 40);
  change(run, 48.5, "colo", 70);
  const auto measured = measure(run);
  EXPECT_EQ(measured.phases[1].back_s, 8.5);
  EXPECT_EQ(measured.phases[3].back_s, 0) << "it never left";
}

TEST(PoliciesMeasure, IsBackWithAShortStayToThePhasesEnd) {
  auto run = run_of("hybrid");
  change(run, 77, "colo", 10);
  const auto measured = measure(run);
  EXPECT_EQ(measured.phases[1].back_s, 37);
}

TEST(PoliciesMeasure, IsNeverBackInPeriodicMode) {
  const auto measured = measure(run_of("periodic"));
  EXPECT_EQ(measured.phases[1].back_s, std::nullopt);
  EXPECT_THAT(measured.phases[0].stays, IsEmpty()) << "it never left";
  EXPECT_EQ(measured.all.colo_share(), 0);
}

TEST(PoliciesVerdict, HoldsThePoliciesThatFollow) {
  const std::vector<PolicyRun> runs{following("hybrid", 1),   following("hybrid", 2),
                                    following("adaptive", 1), following("adaptive", 2),
                                    run_of("periodic", 1),    run_of("periodic", 2),
                                    run_of("colo", 1),        run_of("colo", 2)};
  for (const auto& verdict : verdicts(runs))
    EXPECT_EQ(verdict.outcome, Verdict::Outcome::holds) << verdict.statement << verdict.evidence;
}

TEST(PoliciesVerdict, ShowsNothingWithoutRuns) {
  for (const auto& verdict : verdicts({}))
    EXPECT_EQ(verdict.outcome, Verdict::Outcome::not_shown) << verdict.statement;
}

TEST(PoliciesVerdict, IsBrokenByOneLateReturn) {
  auto late = following("adaptive");
  late.modes.back().at_s = 80 + 40 + 15.1;
  const auto verdict = verdict_about({following("adaptive"), late}, "adaptive is back");
  EXPECT_EQ(verdict.outcome, Verdict::Outcome::broken);
  EXPECT_THAT(verdict.evidence, HasSubstr("3.0 s, 15.1 s"));
  late.modes.pop_back();
  EXPECT_EQ(verdict_about({late}, "adaptive is back").outcome, Verdict::Outcome::broken);
}

TEST(PoliciesVerdict, IsBrokenByStaysThatDoNotGrow) {
  auto same = run_of("hybrid");
  change(same, 2, "periodic", 10);
  change(same, 8, "colo", 37);
  change(same, 9, "periodic", 40);
  change(same, 16, "colo", 67);
  EXPECT_EQ(verdict_about({same}, "get longer").outcome, Verdict::Outcome::broken);
  same.modes.back().checkpoint = 66;
  EXPECT_EQ(verdict_about({same}, "get longer").outcome, Verdict::Outcome::broken);
  same.modes.resize(2);
  EXPECT_EQ(verdict_about({same}, "get longer").outcome, Verdict::Outcome::not_shown)
      << "one stay does not tell";
}

TEST(PoliciesVerdict, ComparesDowntimeWithTheBetterFixedModeByTheSpreadOfRepeats) {
  const auto stopped = [](const std::string& policy, int repeat, double ms) {
    auto run = run_of(policy, repeat);
    run.counted.back().stopped_ms += ms;
    return run;
  };
  const std::string words = "downtime";
  std::vector<PolicyRun> runs{stopped("periodic", 1, 0), stopped("periodic", 2, 100),
                              stopped("colo", 1, 900), stopped("colo", 2, 990)};
  EXPECT_EQ(verdict_about(runs, words).outcome, Verdict::Outcome::not_shown);
  runs.push_back(stopped("adaptive", 1, 90));
  EXPECT_EQ(verdict_about(runs, words).outcome, Verdict::Outcome::not_shown) << "one repeat";
  runs.push_back(stopped("adaptive", 2, 200));
  const auto verdict = verdict_about(runs, words);
  EXPECT_EQ(verdict.outcome, Verdict::Outcome::holds) << "the spreads meet";
  EXPECT_THAT(verdict.evidence, HasSubstr("periodic 0.58 % (0.55 to 0.61)"));
  runs[4] = stopped("adaptive", 1, 110);
  EXPECT_EQ(verdict_about(runs, words).outcome, Verdict::Outcome::broken);
}

TEST(PoliciesVerdict, LeavesOutRunsWithAProblemAndTellsOfIt) {
  auto failed = following("hybrid");
  failed.problem = "the VM is not protected any more";
  const std::vector<PolicyRun> runs{failed};
  EXPECT_EQ(verdict_about(runs, "hybrid is back").outcome, Verdict::Outcome::not_shown);
  const auto verdict = verdict_about(runs, "to its end");
  EXPECT_EQ(verdict.outcome, Verdict::Outcome::broken);
  EXPECT_THAT(verdict.evidence, HasSubstr("not protected"));
}

TEST(PoliciesSpread, IsMedianLeastAndGreatest) {
  EXPECT_FALSE(spread({}));
  const auto odd = spread({3, 1, 2});
  EXPECT_EQ(odd->median, 2);
  EXPECT_EQ(odd->least, 1);
  EXPECT_EQ(odd->greatest, 3);
  EXPECT_EQ(spread({4, 1})->median, 2.5);
}

TEST(PoliciesOutput, HasARowForEachRunPartChangeAndSecond) {
  const std::vector<PolicyRun> runs{following("hybrid")};
  EXPECT_THAT(summary_csv(runs), HasSubstr("\nhybrid,1,1,1,random,40.000,400.000,0.010000,400,"));
  EXPECT_THAT(summary_csv(runs), HasSubstr(",27 28 30\n"));
  EXPECT_THAT(modes_csv(runs), HasSubstr("\nhybrid,1,8.750,colo,28,reason,\"sigma=2\"\n"));
  EXPECT_THAT(latency_csv(runs), HasSubstr("\nhybrid,1,-10,10,2.000,2.000,2.000\n"));
  EXPECT_THAT(latency_csv(runs), HasSubstr("\nhybrid,1,39,10,100.000,100.000,100.000\n"));
}

TEST(PoliciesOutput, TableHasMediansWithTheirSpread) {
  PoliciesSetting setting;
  setting.schedule = schedule;
  setting.policies = {"periodic", "hybrid"};
  auto other = following("hybrid", 2);
  other.counted.back().stopped_ms += 160;
  const auto table = table_markdown(setting, std::vector{following("hybrid"), other});
  EXPECT_THAT(table, HasSubstr("| hybrid | 2 | 0.60 (0.55–0.65) |"));
  EXPECT_THAT(table, HasSubstr("27 28 30; 27 28 30"));
}

TEST(PoliciesOutput, JsonKeepsAFailedRunWithoutNumbers) {
  auto failed = run_of("colo");
  failed.counted.resize(2);
  failed.problem = "reset";
  const auto json = to_json(PoliciesSetting{}, std::vector{following("hybrid"), failed});
  EXPECT_EQ(json["runs"][0]["phases"][1]["back_in_colo_s"], 3);
  EXPECT_EQ(json["runs"][1]["problem"], "reset");
  EXPECT_FALSE(json["runs"][1].contains("all"));
}

TEST(PoliciesOutput, GnuplotDrawsThePicture) {
  if (!world::find_program("gnuplot")) GTEST_SKIP() << "gnuplot is not installed (gnuplot-nox)";
  const test::TemporaryFolder folder;
  const auto script = folder.path() / "modes.gnuplot";
  std::ofstream(script) << gnuplot_script(std::vector{following("hybrid"), following("hybrid", 2)},
                                          "hybrid", "modes.svg");
  world::SpawnOptions gnuplot;
  gnuplot.argv = {"env", "-C", folder.path().string(), "gnuplot", script.string()};
  const auto drawn = world::run(gnuplot, 30s);
  ASSERT_TRUE(drawn) << drawn.error().message;
  std::ostringstream picture;
  picture << std::ifstream(folder.path() / "modes.svg").rdbuf();
  EXPECT_THAT(picture.str(), HasSubstr("</svg>"));
  EXPECT_THAT(picture.str(), HasSubstr("periodic"));
  EXPECT_THAT(gnuplot_script(std::vector{following("hybrid")}, "adaptive", "x.svg"), IsEmpty());
}

}  // namespace
}  // namespace tandem::bench
