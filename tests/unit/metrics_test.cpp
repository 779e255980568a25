// The metrics: what is counted never goes back, and what is said follows Prometheus' conventions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/check_names.h>

#include <set>

#include "engine/metrics/exposition.hpp"
#include "engine/metrics/vm_book.hpp"
#include "tests/unit/full_sample.hpp"

namespace tandem::metrics {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;
using testing::HasSubstr;
using testing::Not;

const MetricFamily& find(const std::vector<MetricFamily>& families, const std::string& name) {
  const auto found = std::ranges::find(families, name, &MetricFamily::name);
  if (found == families.end()) throw std::runtime_error("there is no " + name);
  return *found;
}

TEST(Metrics, NamesUnitsAndTypesFollowPrometheusConventions) {
  const std::vector vms{full_sample("web")};
  std::set<std::string> names;
  for (const auto& family : collect(full_host_sample(), vms)) {
    EXPECT_TRUE(prometheus::CheckMetricName(family.name)) << family.name;
    EXPECT_TRUE(names.insert(family.name).second) << family.name << " twice";
    EXPECT_TRUE(family.name.starts_with("tandem_") || family.name.starts_with("process_"));
    EXPECT_EQ(family.name.ends_with("_total"), family.type == MetricType::Counter) << family.name;
    EXPECT_TRUE(family.help.ends_with('.')) << family.name << ": " << family.help;
    for (const auto* unit : {"_ms", "_kib", "_mib", "_kb", "_percent", "_milliseconds"}) {
      EXPECT_THAT(family.name, Not(HasSubstr(unit))) << "not a base unit";
    }
    for (const auto& metric : family.metric) {
      for (const auto& label : metric.label) {
        EXPECT_TRUE(prometheus::CheckLabelName(label.name)) << label.name;
      }
    }
  }
}

TEST(Metrics, EveryVmHasEverySeries) {
  const std::vector vms{full_sample("db"), full_sample("web")};
  for (const auto& family : collect(full_host_sample(), vms)) {
    if (!family.name.starts_with("tandem_vm_")) continue;
    std::map<std::string, int> of;
    for (const auto& metric : family.metric) {
      ASSERT_FALSE(metric.label.empty()) << family.name;
      EXPECT_EQ(metric.label.front().name, "vm") << family.name;
      ++of[metric.label.front().value];
    }
    EXPECT_EQ(of["db"], of["web"]) << family.name;
    EXPECT_GE(of["db"], 1) << family.name;
  }
}

TEST(Metrics, ThePresentModeIsTheOneThatIsOne) {
  auto vm = full_sample("web");
  const auto value = [&](const std::string& mode) {
    const auto families = collect(full_host_sample(), std::span(&vm, 1));
    for (const auto& metric : find(families, "tandem_vm_mode").metric) {
      if (metric.label[1].value == mode) return metric.gauge.value;
    }
    return -1.0;
  };
  vm.mode = "colo";
  EXPECT_EQ(value("colo"), 1);
  EXPECT_EQ(value("periodic"), 0);
  vm.mode = "";
  EXPECT_EQ(value("colo"), 0);
  EXPECT_EQ(value("periodic"), 0);
}

TEST(Metrics, WhatIsNotKnownIsLeftOut) {
  VmSample vm;
  vm.vm = "web";
  const auto families = collect(full_host_sample(), std::span(&vm, 1));
  const auto text = to_text(families);
  EXPECT_THAT(text, Not(HasSubstr("downtime_ratio")));
  EXPECT_THAT(text, Not(HasSubstr("last_failover")));
  EXPECT_THAT(text, HasSubstr("tandem_vm_protected{vm=\"web\"} 0\n"));
}

TEST(Metrics, TheTextIsPrometheusOwn) {
  const std::vector vms{full_sample("web")};
  const auto text = to_text(collect(full_host_sample(), vms));
  EXPECT_THAT(text, HasSubstr("# TYPE tandem_vm_checkpoints_begun_total counter\n"
                              "tandem_vm_checkpoints_begun_total{vm=\"web\"} "));
  EXPECT_THAT(text, HasSubstr("tandem_vm_pause_seconds_bucket{vm=\"web\",le=\"0.005\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_vm_pause_seconds_bucket{vm=\"web\",le=\"+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tandem_vm_pause_seconds_count{vm=\"web\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tandem_vm_mismatches_total{vm=\"web\",reason=\"payload\"} "));
}

TEST(Metrics, ValuesOfLabelsAreEscaped) {
  auto vm = full_sample("web");
  vm.peer = "b\"e\\t\na";
  EXPECT_THAT(to_text(collect(full_host_sample(), std::span(&vm, 1))),
              HasSubstr(R"(peer="b\"e\\t\na")"));
}

TEST(Metrics, TheProcessIsMeasured) {
  HostSample host;
  measure_process(host);
  EXPECT_GT(host.cpu_seconds, 0);
  EXPECT_GT(host.resident_bytes, 1 << 20);
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  EXPECT_GT(host.start_time_seconds, now.count() - 3600);
  EXPECT_LE(host.start_time_seconds, now.count() + 1);
  HostSample again;
  measure_process(again);
  EXPECT_EQ(again.start_time_seconds, host.start_time_seconds) << "it is a constant";
}

TEST(Totals, AddingAndTheLargerOneReachEveryField) {
  const auto full = full_sample("web").totals;
  Totals sum;
  sum += full;
  EXPECT_EQ(sum, full);
  EXPECT_EQ(max(Totals{}, full), full);
  EXPECT_EQ(max(full, Totals{}), full);
}

TEST(VmBook, WhatASessionHasCountedIsKeptWhenItEnds) {
  VmBook book;
  Totals session;
  session.dirty_bytes = 100;
  EXPECT_EQ(book.total(session).dirty_bytes, 100);
  book.close(session);
  EXPECT_EQ(book.total({}).dirty_bytes, 100);
  Totals next;
  next.dirty_bytes = 7;
  EXPECT_EQ(book.total(next).dirty_bytes, 107);
}

TEST(VmBook, ACounterNeverGoesBack) {
  VmBook book;
  Totals session;
  session.wire_bytes = 100;
  session.failovers = 1;
  EXPECT_EQ(book.total(session).wire_bytes, 100);
  // The session is on its way out, and not yet in the book.
  const auto meanwhile = book.total({});
  EXPECT_EQ(meanwhile.wire_bytes, 100);
  EXPECT_EQ(meanwhile.failovers, 1);
  book.close(session);
  session.wire_bytes = 1;
  EXPECT_EQ(book.total(session).wire_bytes, 101) << "and nothing counts twice";
}

TEST(VmBook, PausesAndLatenciesFallIntoTheirBuckets) {
  VmBook book;
  book.paused(std::chrono::milliseconds(3));
  book.paused(std::chrono::milliseconds(30));
  book.committed(std::chrono::seconds(60));
  const auto pauses = book.pauses().histogram;
  EXPECT_EQ(pauses.sample_count, 2u);
  EXPECT_DOUBLE_EQ(pauses.sample_sum, 0.033);
  EXPECT_EQ(pauses.bucket.size(), pause_buckets().size() + 1);
  EXPECT_EQ(book.commits().histogram.sample_count, 1u);
  EXPECT_EQ(book.commits().histogram.bucket.back().cumulative_count, 1u);
}

TEST(Shelf, AVmThatComesBackFindsItsBookAgain) {
  Shelf shelf;
  Totals counted;
  counted.failovers = 2;
  shelf.book("web")->close(counted);
  EXPECT_EQ(shelf.book("web")->total({}).failovers, 2);
  EXPECT_EQ(shelf.book("db")->total({}).failovers, 0);
}

TEST(Shelf, BeyondItsLimitBooksThatNobodyUsesAreThrownAway) {
  Shelf shelf(3);
  const auto used = shelf.book("used");
  shelf.book("a");
  shelf.book("b");
  shelf.book("c");
  EXPECT_EQ(shelf.size(), 2u);
  EXPECT_EQ(shelf.book("used"), used);
}

}  // namespace
}  // namespace tandem::metrics
