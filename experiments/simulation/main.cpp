// tandem-simulate: the product's controller on a model of a protected pair.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "experiments/simulation/acceptance.hpp"
#include "experiments/simulation/report.hpp"
#include "experiments/simulation/sensitivity.hpp"
#include "experiments/simulation/timeline.hpp"
#include "experiments/world/process.hpp"

namespace tandem::simulation {
namespace {

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCannotRun = 2;
constexpr std::chrono::seconds kPlotTimeout{60};
constexpr std::uint64_t kDrawnSeed = 1;

struct Arguments {
  Setting setting;
  std::vector<std::string> workloads;
  std::vector<std::string> policies;
  std::vector<std::string> parameters;  ///< NAME=NUMBER
  std::filesystem::path output = "build/simulation";
  bool json = false, enforce = false, sensitivity = false, no_plots = false;
};

void say(const std::string& text) {
  std::cerr << "simulate: " << text << "\n";
}

Result<void> write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) return Error{Errc::io, "cannot write " + file.string()};
  return {};
}

Result<void> set_parameters(const std::vector<std::string>& settings,
                            controller::Parameters& parameters) {
  for (const auto& setting : settings) {
    const auto equals = setting.find('=');
    double value = 0;
    if (equals == std::string::npos ||
        !CLI::detail::lexical_cast(setting.substr(equals + 1), value)) {
      return Error{Errc::invalid_input, "--set " + setting + ": expected NAME=NUMBER"};
    }
    if (const auto wrong = controller::set(parameters, setting.substr(0, equals), value)) {
      return Error{Errc::invalid_input, "--set " + setting + ": " + *wrong};
    }
  }
  if (const auto wrong = controller::check(parameters)) return Error{Errc::invalid_input, *wrong};
  return {};
}

/// One run of each policy over time, and its picture.
Result<void> draw(const ScenarioResult& result, const Arguments& arguments) {
  bool can_draw = !arguments.no_plots;
  for (const auto policy : arguments.setting.policies) {
    const auto name = result.scenario.name + "-" + std::string(to_string(policy));
    const auto moments = timeline(result.scenario, policy, arguments.setting, kDrawnSeed);
    if (auto written = write(arguments.output / (name + ".csv"), timeline_csv(moments)); !written) {
      return written;
    }
    const auto script =
        gnuplot_script(result.scenario.name + ", " + std::string(to_string(policy)), name + ".csv",
                       name + ".svg", policy == controller::Policy::hybrid);
    if (auto written = write(arguments.output / (name + ".gnuplot"), script); !written) {
      return written;
    }
    if (!can_draw) continue;
    world::SpawnOptions gnuplot;
    // The script names its files without a folder, so that all can be moved.
    gnuplot.argv = {"env", "-C", arguments.output.string(), "gnuplot", name + ".gnuplot"};
    if (auto drawn = world::run(gnuplot, kPlotTimeout); !drawn) {
      // The numbers are there, and the script draws them wherever gnuplot is.
      say("no pictures: " + drawn.error().message);
      can_draw = false;
    }
  }
  return {};
}

Result<bool> simulate(Arguments arguments) {
  auto& setting = arguments.setting;
  if (auto set = set_parameters(arguments.parameters, setting.parameters); !set) return set.error();
  if (!arguments.policies.empty()) setting.policies.clear();
  for (const auto policy : controller::policies) {
    const auto& wanted = arguments.policies;
    if (std::ranges::find(wanted, to_string(policy)) != wanted.end()) {
      setting.policies.push_back(policy);
    }
  }
  std::error_code failed;
  std::filesystem::create_directories(arguments.output, failed);
  if (failed) {
    return Error{Errc::io, "cannot make " + arguments.output.string() + ": " + failed.message()};
  }

  const auto names = arguments.workloads.empty() ? scenario_names() : arguments.workloads;
  std::vector<ScenarioResult> results;
  for (auto& scenario : scenarios(names, say)) {
    say(scenario.name + ": " + std::to_string(setting.seeds) + " seeds of each policy");
    ScenarioResult result{std::move(scenario), {}};
    for (const auto policy : setting.policies) {
      result.policies.push_back(study(result.scenario, policy, setting));
    }
    if (result.scenario.changes) {
      if (auto drawn = draw(result, arguments); !drawn) return drawn.error();
    }
    results.push_back(std::move(result));
  }
  auto report = markdown(results, setting);
  if (arguments.sensitivity) report += "\n" + sensitivity(setting, say);
  const auto json = to_json(results, setting).dump(2) + "\n";
  const std::pair<const char*, std::string> files[] = {
      {"report.md", report}, {"summary.json", json}, {"summary.csv", summary_csv(results)}};
  for (const auto& [name, text] : files) {
    if (auto written = write(arguments.output / name, text); !written) return written.error();
  }
  std::cout << (arguments.json ? json : report) << std::flush;
  say("all results are in " + arguments.output.string());
  const auto held = checks(results);
  for (const auto& check : held) {
    if (!check.holds) say("missed: " + check.statement + ": " + check.evidence);
  }
  return std::ranges::all_of(held, &Check::holds);
}

}  // namespace
}  // namespace tandem::simulation

int main(int argc, char** argv) {
  using namespace tandem;
  simulation::Arguments arguments;
  std::vector<std::string> policy_names;
  for (const auto policy : controller::policies) policy_names.emplace_back(to_string(policy));
  CLI::App app{
      "Runs the product's controller on a model of a protected pair, under the workloads of the "
      "paper\n"
      "and others, and compares policies. Nothing but numbers: no VM, no network, no privileges.\n",
      "scripts/experiment simulate"};
  app.add_option("--seeds", arguments.setting.seeds, "runs of each policy, with the seeds 1 to N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--minutes", arguments.setting.minutes, "simulated time of a run")
      ->check(CLI::Range(1, 600))
      ->capture_default_str();
  app.add_option("--workload", arguments.workloads, "these only (default: all)")
      ->check(CLI::IsMember(simulation::scenario_names()))
      ->delimiter(',');
  app.add_option("--policy", arguments.policies, "these only (default: all)")
      ->check(CLI::IsMember(policy_names))
      ->delimiter(',');
  app.add_option("--set", arguments.parameters,
                 "NAME=NUMBER: a parameter of the controller, see docs/controller.md");
  app.add_option("--output", arguments.output, "folder for report, CSV and pictures")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->capture_default_str();
  app.add_flag("--json", arguments.json, "print the results as JSON, instead of Markdown");
  app.add_flag("--enforce", arguments.enforce, "exit status 1 if a check does not hold");
  app.add_flag("--sensitivity", arguments.sensitivity,
               "also vary the model's free choices, one by one (12 s)");
  app.add_flag("--no-plots", arguments.no_plots,
               "write the scripts of the pictures, but draw none");
  CLI11_PARSE(app, argc, argv);
  const auto passed = simulation::simulate(arguments);
  if (!passed) {
    simulation::say(passed.error().message);
    return simulation::kCannotRun;
  }
  return arguments.enforce && !*passed ? simulation::kFailed : simulation::kPassed;
}
