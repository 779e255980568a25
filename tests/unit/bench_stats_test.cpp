#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experiments/bench/pause_bench_stats.hpp"

namespace tandem::bench {
namespace {

using std::chrono::milliseconds;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Time at(int ms) {
  return Time(std::chrono::seconds(1'700'000'000)) + milliseconds(ms);
}
RunChange stop(int ms) {
  return {false, at(ms)};
}
RunChange resume(int ms) {
  return {true, at(ms)};
}
Window window(int from, int to) {
  return {at(from), at(to)};
}

TEST(BenchPauses, AreFromStopToResume) {
  const auto pauses = pauses_ms({stop(10), resume(15), stop(100), resume(120)}, window(0, 1000));
  EXPECT_THAT(pauses, ElementsAre(DoubleNear(5, 1e-6), DoubleNear(20, 1e-6)));
}

TEST(BenchPauses, BelongToTheWindowInWhichTheyBegin) {
  const std::vector<RunChange> changes = {stop(90),    resume(110), stop(199),
                                          resume(230), stop(200),   resume(201)};
  EXPECT_THAT(pauses_ms(changes, window(100, 200)), ElementsAre(DoubleNear(31, 1e-6)));
}

TEST(BenchPauses, OnesWithoutAnEndOrABeginningDoNotCount) {
  EXPECT_THAT(pauses_ms({resume(5), stop(10)}, window(0, 100)), IsEmpty());
  EXPECT_THAT(pauses_ms({}, window(0, 100)), IsEmpty());
}

TEST(BenchPauses, ASecondStopDoesNotShortenThem) {
  EXPECT_THAT(pauses_ms({stop(10), stop(12), resume(20)}, window(0, 100)),
              ElementsAre(DoubleNear(10, 1e-6)));
}

TEST(BenchStopped, CountsOnlyWhatLiesInTheWindow) {
  const std::vector<RunChange> changes = {stop(0), resume(150), stop(180), resume(500)};
  EXPECT_NEAR(stopped_seconds(changes, window(100, 200)), 0.050 + 0.020, 1e-9);
}

TEST(BenchStopped, AVmThatBeginsWithResumeStoodStillBefore) {
  EXPECT_NEAR(stopped_seconds({resume(40)}, window(0, 100)), 0.040, 1e-9);
  EXPECT_NEAR(stopped_seconds({stop(40)}, window(0, 100)), 0.060, 1e-9);
}

TEST(BenchStopped, WithoutChangesItRan) {
  EXPECT_EQ(stopped_seconds({}, window(0, 100)), 0);
}

TEST(BenchTrace, FindsTheSyncsAmongOtherLines) {
  const auto syncs = parse_bitmap_syncs(
      "qemu-system-x86_64: warning: something@else\n"
      "77@1700000000.250000:migration_bitmap_sync_end dirty_pages 300\n"
      "77@1700000000.500001:migration_bitmap_sync_start \n"
      "77@1700000001.000002:migration_bitmap_sync_end dirty_pages 18446744073709551615\n");
  ASSERT_EQ(syncs.size(), 2U);
  EXPECT_EQ(syncs[0].at, at(250));
  EXPECT_EQ(syncs[0].total_pages, 300U);
  EXPECT_EQ(syncs[1].at, at(1000) + std::chrono::microseconds(2));
  EXPECT_EQ(syncs[1].total_pages, 18446744073709551615U);
}

TEST(BenchTrace, LeavesOutALineThatIsStillBeingWritten) {
  EXPECT_THAT(parse_bitmap_syncs("7@1700000000.000000:migration_bitmap_sync_end dirty_pages 12"),
              IsEmpty());
}

TEST(BenchTrace, LeavesOutWhatIsNoTimeOrNoNumber) {
  EXPECT_THAT(parse_bitmap_syncs("7@17.5:migration_bitmap_sync_end dirty_pages 12\n"
                                 "7@17,000000:migration_bitmap_sync_end dirty_pages 12\n"
                                 "7@:migration_bitmap_sync_end dirty_pages 12\n"
                                 "7@17.000000:migration_bitmap_sync_end dirty_pages x\n"
                                 "7@99999999999999999999.000000:migration_bitmap_sync_end "
                                 "dirty_pages 1\n"),
              IsEmpty());
}

TEST(BenchDirty, IsTheGrowthOfTheRunningTotal) {
  // Zeroed after each sync that comes more than a second after the last zeroing (the first counts
  // as one).
  const std::vector<BitmapSync> syncs = {
      {at(0), 5},      {at(250), 105},  {at(500), 205},  {at(750), 305},  {at(1001), 405},
      {at(1250), 110}, {at(1500), 220}, {at(1750), 330}, {at(2010), 440}, {at(2250), 120}};
  EXPECT_THAT(dirty_pages(syncs, window(200, 3000)),
              ElementsAre(100, 100, 100, 100, 110, 110, 110, 110, 120));
}

TEST(BenchDirty, ATotalThatShrankWasZeroed) {
  const std::vector<BitmapSync> syncs = {{at(0), 400}, {at(250), 100}, {at(500), 200}};
  EXPECT_THAT(dirty_pages(syncs, window(100, 3000)), ElementsAre(100, 100));
}

TEST(BenchDirty, CheckpointsFartherApartThanASecondHaveATotalEach) {
  const std::vector<BitmapSync> syncs = {
      {at(0), 100}, {at(1200), 200}, {at(2400), 101}, {at(3600), 102}};
  EXPECT_THAT(dirty_pages(syncs, window(2000, 5000)), ElementsAre(101, 102));
}

TEST(BenchQuantile, IsTheNearestRank) {
  const std::vector<double> values = {5, 1, 4, 2, 3};
  EXPECT_EQ(quantile(values, 0), 1);
  EXPECT_EQ(quantile(values, 0.5), 3);
  EXPECT_EQ(quantile(values, 0.6), 3);
  EXPECT_EQ(quantile(values, 0.61), 4);
  EXPECT_EQ(quantile(values, 0.99), 5);
  EXPECT_EQ(quantile(values, 1), 5);
  EXPECT_EQ(quantile({}, 0.5), 0);
}

TEST(BenchMean, OfNothingIsZero) {
  EXPECT_EQ(mean({}), 0);
  EXPECT_EQ(mean({1, 2, 6}), 3);
}

Samples samples_of(double pause_ms, double mib, std::size_t n = 20) {
  Samples samples;
  samples.pauses_ms.assign(n, pause_ms);
  samples.dirty_pages.assign(n, mib * 256);
  samples.seconds = 4;
  samples.svm_stopped_seconds = 3;
  return samples;
}

Row sound_row() {
  Row row;
  row.mib = 32;
  row.link = "unshaped";
  row.stock_tcp = summarise(samples_of(30, 33), 1);
  row.stock_unix = summarise(samples_of(20, 33), 1);
  row.tandem = summarise(samples_of(10, 33), 1);
  return row;
}

TEST(BenchSamples, OfSeveralVisitsAreOne) {
  auto samples = samples_of(10, 32, 1);
  samples.stream_bytes = 100;
  auto more = samples_of(30, 32, 3);
  more.stream_bytes = 11;
  more.others_cpu_seconds = 2;
  samples.add(more);
  const auto summary = summarise(samples, 0.5);
  EXPECT_EQ(summary.checkpoints, 4U);
  EXPECT_EQ(summary.mean_ms, 25);
  EXPECT_EQ(summary.p50_ms, 30);
  EXPECT_EQ(summary.dirty_mib, 32);
  EXPECT_EQ(summary.idle_mib, 0.5);
  EXPECT_EQ(summary.seconds, 8);
  EXPECT_EQ(summary.svm_stopped_ratio, 0.75);
  EXPECT_EQ(summary.stream_bytes, 111U);
  EXPECT_EQ(summary.others_cpu, 0.25);
}

TEST(BenchRow, IsHeldAgainstThePromisedRatio) {
  auto row = sound_row();
  EXPECT_TRUE(broken_promises(row).empty());
  row.tandem.mean_ms = 0.7 * row.stock().mean_ms + 0.1;
  EXPECT_EQ(broken_promises(row).size(), 1U);
  row.mib = 64;  // nothing is promised for it
  EXPECT_TRUE(broken_promises(row).empty());
  row.mib = 8;
  row.link = "1gbit";
  EXPECT_EQ(broken_promises(row).size(), 1U);
  row.tandem.mean_ms = 0.25 * row.stock().mean_ms;
  EXPECT_TRUE(broken_promises(row).empty());
}

TEST(BenchRow, ComparesWithTheBetterStockVariant) {
  auto row = sound_row();
  EXPECT_EQ(row.stock_variant(), "unix");
  EXPECT_EQ(to_json(row)["ratio_mean"], 0.5);
  row.stock_unix->mean_ms = 31;
  EXPECT_EQ(row.stock_variant(), "tcp");
  row.stock_unix.reset();
  EXPECT_EQ(row.stock_variant(), "tcp");
}

TEST(BenchRow, IsSoundWithinTheTolerance) {
  auto row = sound_row();
  EXPECT_THAT(problems(row), IsEmpty());
  row.tandem.dirty_mib = 1 + 32 * 1.149;
  EXPECT_THAT(problems(row), IsEmpty());
  row.tandem.dirty_mib = 1 + 32 * 0.851;
  EXPECT_THAT(problems(row), IsEmpty());
}

TEST(BenchRow, FailsWhereTheGuestWroteAnotherAmount) {
  for (const double written : {0.0, 32 * 0.849, 32 * 1.151, 64.0}) {
    auto row = sound_row();
    row.tandem.dirty_mib = row.tandem.idle_mib + written;
    EXPECT_THAT(problems(row), ElementsAre(HasSubstr("32 MiB, unshaped, tandem: the guest wrote")));
    EXPECT_FALSE(to_json(row)["ok"].get<bool>());
    EXPECT_THAT(table_line(row), HasSubstr("FAILED"));
  }
}

TEST(BenchRow, JudgesEveryVariant) {
  auto row = sound_row();
  row.stock_tcp.dirty_mib = 10;
  row.stock_unix->dirty_mib = 10;
  EXPECT_THAT(problems(row), ElementsAre(HasSubstr("stock over TCP"), HasSubstr("unix socket")));
}

TEST(BenchRow, FailsOnTooFewCheckpoints) {
  auto row = sound_row();
  row.stock_tcp.checkpoints = kPausesMin - 1;
  EXPECT_THAT(problems(row), ElementsAre(HasSubstr("only 7 checkpoints")));
}

TEST(BenchRow, AsJson) {
  auto row = sound_row();
  row.tandem.stream_bytes = 5;
  const auto json = to_json(row);
  EXPECT_EQ(json["mib"], 32);
  EXPECT_EQ(json["link"], "unshaped");
  EXPECT_EQ(json["paced"], false);
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["stock"]["pause_mean_ms"], 20);
  EXPECT_EQ(json["stock_variants"]["tcp"]["pause_mean_ms"], 30);
  EXPECT_EQ(json["stock_variants"]["unix"]["pause_p99_ms"], 20);
  EXPECT_EQ(json["tandem"]["checkpoints"], 20);
  EXPECT_EQ(json["tandem"]["dirty_mib_per_checkpoint"], 33);
  EXPECT_EQ(json["tandem"]["svm_stopped_ratio"], 0.75);
  EXPECT_EQ(json["tandem"]["stream_bytes"], 5);
  EXPECT_TRUE(json["stock"]["stream_bytes"].is_null());
  EXPECT_EQ(json["ratio_p50"], 0.5);
  EXPECT_EQ(json["ratio_p99"], 0.5);
}

TEST(BenchRow, WithoutASingleStockPauseHasNoInfiniteRatio) {
  Row row;
  row.mib = 1;
  row.tandem = summarise(samples_of(10, 1), 0);
  EXPECT_EQ(to_json(row)["ratio_mean"], 0);
  EXPECT_FALSE(to_json(row)["ok"].get<bool>());
}

TEST(BenchLink, RatesAsTcWritesThem) {
  EXPECT_EQ(link_rate("1gbit"), 125e6);
  EXPECT_EQ(link_rate("2.5gbit"), 312.5e6);
  EXPECT_EQ(link_rate("100mbit"), 12.5e6);
  EXPECT_EQ(link_rate("800kbit"), 1e5);
  for (const char* text : {"", "gbit", "1", "0gbit", "-1gbit", "1gbit ", "1Gbit", "nangbit", "inf"})
    EXPECT_EQ(link_rate(text), std::nullopt) << text;
}

TEST(BenchLink, IsPacedWhereItCannotCarryACheckpointAPeriod) {
  EXPECT_FALSE(needs_pacing(64, std::nullopt, milliseconds(250)));
  EXPECT_FALSE(needs_pacing(8, 125e6, milliseconds(250)));
  EXPECT_TRUE(needs_pacing(32, 125e6, milliseconds(250)));
  EXPECT_FALSE(needs_pacing(32, 125e6, milliseconds(1000)));
}

TEST(BenchTable, LinesUpWithItsHead) {
  const auto head = table_head();
  const auto first = head.substr(0, head.find('\n'));
  const auto second = head.substr(head.find('\n') + 1);
  auto row = sound_row();
  const auto bars = [](const std::string& line) {
    std::vector<std::size_t> positions;
    for (std::size_t i = 0; i < line.size(); ++i)
      if (line[i] == '|') positions.push_back(i);
    return positions;
  };
  EXPECT_EQ(bars(first), bars(second));
  EXPECT_EQ(bars(table_line(row)), bars(second));
  row.stock_unix.reset();
  row.paced = true;
  row.link = "1gbit";
  EXPECT_EQ(bars(table_line(row)), bars(second));
  EXPECT_THAT(table_line(row), HasSubstr("1gbit*"));
}

}  // namespace
}  // namespace tandem::bench
