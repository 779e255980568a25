#include "experiments/simulation/scenarios.hpp"

#include <algorithm>
#include <utility>

namespace tandem::simulation {
namespace {

/// What Table I's three rows have in common (docs/simulation.md says where it comes from). The rest
/// is where the calibration begins.
Costs paper_costs() {
  return {.copy_fixed_s = 0.010, .copy_mb_s = 800, .link_mb_s = 1100, .load_s = 0.3};
}

/// As measured with Tandem's own engine: docs/benchmarks.md, `pause`.
Costs tandem_costs() {
  return {.copy_fixed_s = 0.0014,
          .copy_mb_s = 5000,
          .link_mb_s = 1100,
          .load_s = 0.002,
          .colo_waits = false};
}

// Of the free choices: bursts of mismatches, on and off within seconds.
constexpr double wander = 6, wander_time_s = 6;

Workload tandem_guest(Shape shape, double mismatches_per_s) {
  return {{.shape = shape,
           .dirty_mb_s = 20,
           .working_set_mb = 12,
           .mismatches_per_s = mismatches_per_s},
          tandem_costs()};
}

/// A guest as large as BugZilla's, which changes in one way only or not at all.
Workload large_guest(const Workload& bugzilla, Shape shape, double mismatches_per_s) {
  auto workload = bugzilla;
  workload.character.shape = shape;
  workload.character.mismatches_per_s = mismatches_per_s;
  workload.character.wander = 0;
  return workload;
}

constexpr double rare = 0, often = 100, middle = 1;  // mismatches a second

struct Entry {
  const char* name;
  const char* what;
  bool changes;
};
constexpr Entry entries[] = {
    {"rubis", "the paper's: 5 and 50 requests at once, 5 minutes each", true},
    {"bugzilla", "the paper's: 0 to 16 creations a second", true},
    {"video", "the paper's: a video stream", true},
    {"switching", "known replies for 40 s, random ones for 40 s", true},
    {"deterministic", "outputs never differ", false},
    {"random", "each reply differs", false},
    {"drift", "mismatches become more frequent and rare again in 15 minutes", false},
    {"borderline", "both modes cost the same", false},
    {"large-deterministic", "deterministic, with BugZilla's memory and the paper's costs", false},
    {"large-random", "random, likewise", false},
    {"large-drift", "drift, likewise", false},
    {"large-borderline", "borderline, likewise", false},
};

}  // namespace

Workload rubis_draft() {
  Workload workload{
      {.shape = Shape::steps, .dirty_mb_s = 40, .working_set_mb = 80, .mismatches_per_s = 50},
      paper_costs()};
  workload.costs.diverged_mb_per_request = 2;
  workload.costs.diverged_s_per_request = 0.015;
  return workload;
}

Workload bugzilla_draft() {
  return {{.shape = Shape::creations,
           .dirty_mb_s = 320,
           .working_set_mb = 2000,
           .mismatches_per_s = 1,
           .wander = wander,
           .wander_time_s = wander_time_s,
           .alike_min_s = 0.3,
           .alike_max_s = 0.6,
           .by_the_clock = true},
          paper_costs()};
}

Workload video_draft() {
  return {{.shape = Shape::steady,
           .dirty_mb_s = 270,
           .working_set_mb = 8000,
           .mismatches_per_s = 1,
           .wander = wander,
           .wander_time_s = wander_time_s,
           .by_the_clock = true},
          paper_costs()};
}

std::vector<std::string> scenario_names() {
  std::vector<std::string> names;
  for (const auto& entry : entries) names.emplace_back(entry.name);
  return names;
}

std::vector<Scenario> scenarios(const std::vector<std::string>& names, const Progress& progress) {
  // BugZilla's memory and costs are needed for the large ones, too.
  std::optional<Workload> bugzilla;
  const auto large = [&](Shape shape, double mismatches_per_s) {
    if (!bugzilla) bugzilla = calibrated(bugzilla_draft(), paper_bugzilla);
    return large_guest(*bugzilla, shape, mismatches_per_s);
  };
  std::vector<Scenario> wanted;
  for (const auto& entry : entries) {
    const std::string name = entry.name;
    if (std::ranges::find(names, name) == names.end()) continue;
    progress(name + ": calibrating");
    Scenario scenario{name, entry.what, {}, {}, entry.changes};
    auto& workload = scenario.workload;
    if (name == "rubis") {
      scenario.paper = paper_rubis;
      workload = calibrated(rubis_draft(), paper_rubis);
    } else if (name == "bugzilla") {
      scenario.paper = paper_bugzilla;
      workload = calibrated(bugzilla_draft(), paper_bugzilla);
      bugzilla = workload;
    } else if (name == "video") {
      scenario.paper = paper_video;
      workload = calibrated(video_draft(), paper_video);
    } else if (name == "switching") {
      workload = tandem_guest(Shape::switching, often);
    } else if (name == "deterministic") {
      workload = tandem_guest(Shape::steady, rare);
    } else if (name == "random") {
      workload = tandem_guest(Shape::steady, often);
    } else if (name == "drift") {
      workload = tandem_guest(Shape::drift, middle);
    } else if (name == "borderline") {
      workload = balanced(tandem_guest(Shape::steady, middle));
    } else if (name == "large-deterministic") {
      workload = large(Shape::steady, rare);
    } else if (name == "large-random") {
      workload = large(Shape::steady, often);
    } else if (name == "large-drift") {
      workload = large(Shape::drift, middle);
    } else if (name == "large-borderline") {
      workload = balanced(large(Shape::steady, middle));
    }
    wanted.push_back(std::move(scenario));
  }
  return wanted;
}

}  // namespace tandem::simulation
