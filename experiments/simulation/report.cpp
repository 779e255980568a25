#include "experiments/simulation/report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace tandem::simulation {
namespace {

using controller::Policy;

std::string rule(std::size_t columns) {
  std::string line = "|";
  for (std::size_t i = 0; i < columns; ++i) line += "---|";
  return line + "\n";
}

std::string name_of(Policy policy) {
  return std::string(to_string(policy));
}

struct PaperColumn {
  Policy policy;
  const char* name;  ///< as the paper calls it
  PaperCell PaperRow::*cell;
};
constexpr PaperColumn paper_columns[] = {
    {Policy::periodic, "checkpoint", &PaperRow::periodic},
    {Policy::colo, "COLO", &PaperRow::colo},
    {Policy::threshold, "threshold", &PaperRow::threshold},
    {Policy::hybrid, "hybrid", &PaperRow::hybrid},
};

std::string beside(double ours, double paper, int digits, double scale = 1) {
  const auto off = 100 * (ours / paper - 1);
  return number(scale * ours, digits) + " / " + number(scale * paper, digits) + " (" +
         (off < 0 ? "−" : "+") + number(std::abs(off), 1) + " %)";
}

std::string beside_the_paper(std::span<const ScenarioResult> results) {
  std::string text =
      row({"workload", "policy", "", "downtime, %", "checkpoint, ms", "MB/s"}) + rule(6);
  for (const auto& result : results) {
    if (!result.scenario.paper) continue;
    for (const auto& column : paper_columns) {
      const auto* found = result.find(column.policy);
      if (found == nullptr) continue;
      const auto& paper = (*result.scenario.paper).*column.cell;
      const auto& ours = found->means;
      const bool fixed = column.policy == Policy::periodic || column.policy == Policy::colo;
      text += row({result.scenario.name, column.name, fixed ? "calibrated" : "predicted",
                   beside(ours.downtime, paper.downtime, 1, 100),
                   beside(ours.checkpoint_ms, paper.checkpoint_ms, 0),
                   beside(ours.mb_per_s, paper.mb_per_s, 1)});
    }
  }
  return text;
}

/// What each cell would mean if its three numbers were averages over the same checkpoints.
std::string contradictions() {
  const std::array<std::pair<const char*, const PaperRow*>, 3> rows{
      {{"rubis", &paper_rubis}, {"bugzilla", &paper_bugzilla}, {"video", &paper_video}}};
  std::string text = row({"workload", "policy", "ms / downtime: a checkpoint each … s",
                          "downtime of such a pause and 250 ms, %", "the table's, %",
                          "MB in such a checkpoint", "MB / ms: GB/s"}) +
                     rule(7);
  for (const auto& [name, paper] : rows) {
    for (const auto& column : paper_columns) {
      const auto& cell = paper->*column.cell;
      const auto pause_s = cell.checkpoint_ms / 1e3;
      const auto cycle_s = pause_s / cell.downtime;
      const auto mb = cell.mb_per_s * cycle_s;
      const bool periodic = column.policy == Policy::periodic;
      text +=
          row({name, column.name, number(cycle_s, 2),
               periodic ? number(100 * pause_s / (pause_s + paper_period_s), 0) : "",
               number(100 * cell.downtime, 1), number(mb, 0), number(mb / cell.checkpoint_ms, 2)});
    }
  }
  return text;
}

std::string all_workloads(std::span<const ScenarioResult> results, const Setting& setting) {
  std::vector<std::string> head{"downtime, %"};
  for (const auto policy : setting.policies) head.push_back(name_of(policy));
  std::string text = row(head) + rule(head.size());
  const auto table = [&](const auto& cell) {
    std::string lines;
    for (const auto& result : results) {
      std::vector<std::string> cells{result.scenario.name};
      for (const auto& policy : result.policies) cells.push_back(cell(policy));
      lines += row(cells);
    }
    return lines;
  };
  text += table([](const PolicyResult& r) { return number(100 * r.means.downtime, 3); });
  head[0] = "mean output wait, ms";
  text += "\n" + row(head) + rule(head.size());
  text += table([](const PolicyResult& r) { return number(r.means.output_wait_ms, 1); });
  head[0] = "share of time in COLO mode, %";
  text += "\n" + row(head) + rule(head.size());
  text += table([](const PolicyResult& r) { return number(100 * r.means.colo_share, 0); });
  return text;
}

std::string calibration(std::span<const ScenarioResult> results) {
  std::string text =
      row({"workload", "written, MB/s", "working set, MB", "mismatches, 1/s", "copy, MB/s",
           "load, ms", "diverged, MB per request", "diverged, ms per request"}) +
      rule(8);
  for (const auto& result : results) {
    if (!result.scenario.paper) continue;
    const auto& [c, k] = result.scenario.workload;
    text += row({result.scenario.name, number(c.dirty_mb_s, 1), number(c.working_set_mb, 0),
                 number(c.mismatches_per_s, 2), number(k.copy_mb_s, 0), number(1e3 * k.load_s, 0),
                 number(k.diverged_mb_per_request, 2), number(1e3 * k.diverged_s_per_request, 1)});
  }
  return text;
}

std::string checks_table(std::span<const ScenarioResult> results) {
  std::string text = row({"", "", ""}) + rule(3);
  for (const auto& check : checks(results)) {
    text += row({check.holds ? "holds" : "**MISSED**", check.statement, check.evidence});
  }
  return text;
}

}  // namespace

std::string number(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string row(const std::vector<std::string>& cells) {
  std::string line = "|";
  for (const auto& cell : cells) line += " " + cell + " |";
  return line + "\n";
}

std::string markdown(std::span<const ScenarioResult> results, const Setting& setting) {
  const bool paper = std::ranges::any_of(
      results, [](const ScenarioResult& result) { return result.scenario.paper.has_value(); });
  std::string text = "# Policies in simulation\n\n" + std::to_string(setting.seeds) + " seeds, " +
                     number(setting.minutes, 0) +
                     " simulated minutes each. docs/simulation.md says what is simulated.\n";
  if (paper) {
    text += "\n## Beside the paper's Table I (ours / the paper's)\n\n" + beside_the_paper(results);
    text += "\n## Where Table I contradicts itself\n\n" + contradictions();
    text += "\n## What was calibrated\n\n" + calibration(results);
  }
  text += "\n## All workloads\n\n" + all_workloads(results, setting);
  text += "\n## Checks\n\n" + checks_table(results);
  return text;
}

std::string summary_csv(std::span<const ScenarioResult> results) {
  std::string text =
      "workload,policy,seed,downtime,checkpoint_ms,mb_per_s,output_wait_ms,colo_share,"
      "checkpoints,mismatches,mode_changes\n";
  for (const auto& result : results) {
    for (const auto& policy : result.policies) {
      for (std::size_t i = 0; i < policy.runs.size(); ++i) {
        const auto& run = policy.runs[i];
        text += result.scenario.name + "," + name_of(policy.policy) + "," + std::to_string(i + 1);
        for (const auto value :
             {run.downtime(), run.checkpoint_ms(), run.mb_per_s(), run.output_wait_ms(),
              run.colo_share(), run.checkpoints, run.mismatches, run.mode_changes}) {
          text += ',';
          text += number(value, 6);
        }
        text += "\n";
      }
    }
  }
  return text;
}

nlohmann::json to_json(std::span<const ScenarioResult> results, const Setting& setting) {
  const auto rounded = [](double value) { return std::round(value * 1e6) / 1e6; };
  nlohmann::json json{{"seeds", setting.seeds}, {"minutes", setting.minutes}};
  auto& workloads = json["workloads"] = nlohmann::json::array();
  for (const auto& result : results) {
    nlohmann::json workload{{"workload", result.scenario.name}, {"what", result.scenario.what}};
    auto& policies = workload["policies"] = nlohmann::json::array();
    for (const auto& policy : result.policies) {
      const auto& means = policy.means;
      nlohmann::json entry{{"policy", to_string(policy.policy)},
                           {"downtime", rounded(means.downtime)},
                           {"checkpoint_ms", rounded(means.checkpoint_ms)},
                           {"mb_per_s", rounded(means.mb_per_s)},
                           {"output_wait_ms", rounded(means.output_wait_ms)},
                           {"colo_share", rounded(means.colo_share)},
                           {"checkpoints_per_s", rounded(means.checkpoints_per_s)},
                           {"mode_changes", rounded(means.mode_changes)},
                           {"back_in_colo_s", nullptr},
                           {"paper", nullptr}};
      if (policy.back_s) entry["back_in_colo_s"] = rounded(*policy.back_s);
      for (const auto& column : paper_columns) {
        if (!result.scenario.paper || column.policy != policy.policy) continue;
        const auto& cell = (*result.scenario.paper).*column.cell;
        entry["paper"] = {{"downtime", cell.downtime},
                          {"checkpoint_ms", cell.checkpoint_ms},
                          {"mb_per_s", cell.mb_per_s}};
      }
      policies.push_back(std::move(entry));
    }
    workloads.push_back(std::move(workload));
  }
  auto& all = json["checks"] = nlohmann::json::array();
  for (const auto& check : checks(results)) {
    all.push_back(
        {{"statement", check.statement}, {"holds", check.holds}, {"evidence", check.evidence}});
  }
  return json;
}

}  // namespace tandem::simulation
