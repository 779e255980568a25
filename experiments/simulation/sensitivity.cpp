#include "experiments/simulation/sensitivity.hpp"

#include <array>

#include "experiments/simulation/acceptance.hpp"
#include "experiments/simulation/report.hpp"

namespace tandem::simulation {
namespace {

using controller::Policy;

/// A row: what was chosen, each policy's downtime, whether the paper's order came out.
std::string line(const std::string& choice, const Workload& draft, const PaperRow& paper,
                 const Setting& setting, bool chosen) {
  ScenarioResult result{{choice, "", calibrated(draft, paper), paper, true}, {}};
  std::vector<std::string> cells{chosen ? "**" + choice + "**" : choice};
  for (const auto policy : controller::policies) {
    result.policies.push_back(study(result.scenario, policy, setting));
    cells.push_back(number(100 * result.policies.back().means.downtime, 1));
  }
  bool ordered = false;
  for (const auto& check : checks(std::array{result})) {
    if (check.statement.ends_with("in the paper's order")) ordered = check.holds;
  }
  cells.emplace_back(ordered ? "yes" : "no");
  return row(cells);
}

std::string head(const std::string& title, const std::string& choice) {
  return "\n### " + title + "\n\n" +
         row({choice, "checkpoint", "COLO", "threshold", "hybrid", "adaptive", "paper's order"}) +
         "|---|---|---|---|---|---|---|\n";
}

}  // namespace

std::string sensitivity(const Setting& setting, const Progress& progress) {
  std::string text = "## What the free choices change (downtime, %; what was chosen is bold)\n";
  const auto bursts = [&](const char* name, const Workload& draft, const PaperRow& paper) {
    progress(std::string("sensitivity: ") + name + ", bursts");
    text +=
        head(std::string(name) + ": how long mismatches stay as they are", "correlation time, s");
    for (const double time_s : {2, 4, 6, 10, 20, 60}) {
      auto varied = draft;
      varied.character.wander_time_s = time_s;
      text +=
          line(number(time_s, 0), varied, paper, setting, time_s == draft.character.wander_time_s);
    }
    text += head(std::string(name) + ": how far the rate of mismatches wanders",
                 "standard deviation of its logarithm");
    for (const double wander : {1, 2, 4, 6, 8}) {
      auto varied = draft;
      varied.character.wander = wander;
      text += line(number(wander, 0), varied, paper, setting, wander == draft.character.wander);
    }
    text += head(std::string(name) + ": how long the VMs send the same after a checkpoint", "s");
    const std::pair<double, double> ranges[] = {
        {0, 0}, {0, 0.3}, {0.2, 0.5}, {0.3, 0.6}, {0.4, 0.7}};
    for (const auto& [min_s, max_s] : ranges) {
      auto varied = draft;
      varied.character.alike_min_s = min_s;
      varied.character.alike_max_s = max_s;
      text += line(number(min_s, 1) + " to " + number(max_s, 1), varied, paper, setting,
                   min_s == draft.character.alike_min_s && max_s == draft.character.alike_max_s);
    }
  };
  bursts("bugzilla", bugzilla_draft(), paper_bugzilla);
  bursts("video", video_draft(), paper_video);

  progress("sensitivity: rubis");
  const auto rubis = rubis_draft();
  text += head("rubis: mismatches at 5 requests", "1/s");
  for (const double rate : {0.02, 0.05, 0.1, 0.2}) {
    auto varied = rubis;
    varied.character.light_mismatches_per_s = rate;
    text += line(number(rate, 2), varied, paper_rubis, setting,
                 rate == rubis.character.light_mismatches_per_s);
  }
  text += head("rubis: what is under way is sent and loaded anew", "when");
  text += line("both VMs go on", rubis, paper_rubis, setting, true);
  auto always = rubis;
  always.costs.diverged_always = true;
  text += line("also before a periodic epoch", always, paper_rubis, setting, false);

  text += head("rubis: over how many checkpoints threshold averages", "checkpoints");
  for (const double average : {2, 3, 5}) {
    auto varied = setting;
    varied.parameters.threshold_average = average;
    text += line(number(average, 0), rubis, paper_rubis, varied,
                 average == setting.parameters.threshold_average);
  }
  return text;
}

}  // namespace tandem::simulation
