#include "experiments/simulation/acceptance.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace tandem::simulation {
namespace {

using controller::Policy;

template <class... Values>
std::string text(const char* format, Values... values) {
  char buffer[160];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

double off(double value, double wanted) {
  return value / wanted - 1;
}

struct Column {
  Policy policy;
  PaperCell paper;
};

/// The same runs that were calibrated with; others differ as their seeds do.
bool calibrated_with(const std::vector<Totals>& runs) {
  return runs.size() == calibration_seeds && std::ranges::all_of(runs, [](const Totals& run) {
           return run.time_s >= calibration_s && run.time_s < calibration_s + 60;
         });
}

void check_static(const ScenarioResult& result, const Column& column, std::vector<Check>& all) {
  const auto* found = result.find(column.policy);
  if (found == nullptr || !calibrated_with(found->runs)) return;
  const auto& means = found->means;
  const auto downtime = off(means.downtime, column.paper.downtime);
  const auto ms = off(means.checkpoint_ms, column.paper.checkpoint_ms);
  const auto mb = off(means.mb_per_s, column.paper.mb_per_s);
  all.push_back(
      {result.scenario.name + ": " + std::string(to_string(column.policy)) +
           " is as in the table (downtime 1 %, the others 5 %)",
       std::abs(downtime) <= static_downtime_off && std::abs(ms) <= static_others_off &&
           std::abs(mb) <= static_others_off,
       text("downtime %+.1f %%, ms %+.1f %%, MB/s %+.1f %%", 100 * downtime, 100 * ms, 100 * mb)});
}

void check_predicted(const ScenarioResult& result, const Column& column, std::vector<Check>& all) {
  const auto* found = result.find(column.policy);
  if (found == nullptr) return;
  const auto downtime = off(found->means.downtime, column.paper.downtime);
  all.push_back({result.scenario.name + ": " + std::string(to_string(column.policy)) +
                     "'s downtime is predicted within 15 %",
                 std::abs(downtime) <= predicted_downtime_off,
                 text("%.1f %%, the paper has %.1f %%: %+.1f %%", 100 * found->means.downtime,
                      100 * column.paper.downtime, 100 * downtime)});
}

/// The paper's four policies, by their downtime.
void check_order(const ScenarioResult& result, const PaperRow& paper, std::vector<Check>& all) {
  std::vector<Column> columns{{Policy::periodic, paper.periodic},
                              {Policy::colo, paper.colo},
                              {Policy::threshold, paper.threshold},
                              {Policy::hybrid, paper.hybrid}};
  std::ranges::sort(columns, {}, [](const Column& column) { return column.paper.downtime; });
  Check check{result.scenario.name + ": the policies are in the paper's order", true, {}};
  double before = 0;
  for (const auto& column : columns) {
    const auto* found = result.find(column.policy);
    if (found == nullptr) return;
    const auto downtime = found->means.downtime;
    check.holds = check.holds && downtime > before;
    check.evidence += text("%s%s %.2f %%", before > 0 ? " < " : "",
                           std::string(to_string(column.policy)).c_str(), 100 * downtime);
    before = downtime;
  }
  if (!check.holds) check.evidence = "not: " + check.evidence;
  all.push_back(check);
}

void check_adaptive(const ScenarioResult& result, std::vector<Check>& all) {
  const auto* adaptive = result.find(Policy::adaptive);
  if (adaptive == nullptr) return;
  const auto* periodic = result.find(Policy::periodic);
  const auto* colo = result.find(Policy::colo);
  if (periodic != nullptr && colo != nullptr) {
    const auto best = std::min(periodic->means.downtime, colo->means.downtime);
    const auto more = off(adaptive->means.downtime, best);
    all.push_back(
        {result.scenario.name + ": adaptive is not worse than the better fixed mode by 2 %",
         more <= worse_than_static,
         text("%.3f %%, best fixed %.3f %%: %+.1f %%", 100 * adaptive->means.downtime, 100 * best,
              100 * more)});
  }
  const auto* hybrid = result.find(Policy::hybrid);
  if (result.scenario.changes && hybrid != nullptr) {
    const auto less = off(adaptive->means.downtime, hybrid->means.downtime);
    all.push_back({result.scenario.name + ": adaptive is better than hybrid by 10 %",
                   less <= -better_than_hybrid,
                   text("%.3f %%, hybrid %.3f %%: %+.1f %%", 100 * adaptive->means.downtime,
                        100 * hybrid->means.downtime, 100 * less)});
  }
}

void check_back(const ScenarioResult& result, Policy policy, std::vector<Check>& all) {
  const auto* found = result.find(policy);
  if (found == nullptr || !found->back_s) return;
  all.push_back({result.scenario.name + ": " + std::string(to_string(policy)) +
                     " is back in COLO mode within 15 s of each phase of known replies",
                 *found->back_s <= back_within_s, text("%.1f s at worst", *found->back_s)});
}

}  // namespace

std::vector<Check> checks(std::span<const ScenarioResult> results) {
  std::vector<Check> all;
  for (const auto& result : results) {
    if (result.scenario.paper) {
      const auto& paper = *result.scenario.paper;
      check_static(result, {Policy::periodic, paper.periodic}, all);
      check_static(result, {Policy::colo, paper.colo}, all);
      check_predicted(result, {Policy::threshold, paper.threshold}, all);
      check_predicted(result, {Policy::hybrid, paper.hybrid}, all);
      check_order(result, paper, all);
    }
    check_adaptive(result, all);
    check_back(result, Policy::hybrid, all);
    check_back(result, Policy::adaptive, all);
  }
  return all;
}

}  // namespace tandem::simulation
