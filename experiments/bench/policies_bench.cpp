// tandem-bench-policies: a service whose replies are deterministic and random in turn, under each
// policy on a pair of its own: downtime, reply latency, and the mode over time.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <thread>

#include "experiments/bench/policies_bench_run.hpp"
#include "experiments/world/installation_options.hpp"
#include "experiments/world/process.hpp"
#include "experiments/world/sandbox.hpp"

namespace tandem::bench {
namespace {

namespace fs = std::filesystem;

constexpr int kPassed = 0;
constexpr int kFailed = 1;
constexpr int kCannotRun = 2;
constexpr int kInterrupted = 130;

constexpr std::chrono::seconds kPlotTimeout{60};
// Booting, synchronising, and the end of a run, for the guess at how long it takes.
constexpr double kAround_s = 10;

const std::vector<std::string> kPolicies{"periodic", "colo", "threshold", "hybrid", "adaptive"};

struct Arguments {
  PoliciesSetting setting;
  fs::path output = "policies";
  std::string json;
  world::Installation installation;
  bool quick = false, enforce = false, keep = false, verbose = false;
};

void complain(const std::string& text) {
  std::cerr << "tandem-bench-policies: " << text << "\n";
}

Result<void> write_file(const fs::path& file, const std::string& text) {
  // Whoever looks meanwhile, or ends the program, finds the former file or the whole new one.
  const auto fresh = fs::path(file.string() + ".new");
  {
    std::ofstream out(fresh);
    out << text;
    if (!out.flush()) return Error{Errc::io, "cannot write " + fresh.string()};
  }
  std::error_code problem;
  fs::rename(fresh, file, problem);
  if (problem) return system_error("cannot write " + file.string(), problem.value());
  return {};
}

class Benchmark {
 public:
  explicit Benchmark(const Arguments& arguments)
      : arguments_(arguments), setting_(arguments.setting), display_(stderr, arguments.verbose) {}

  int run() {
    std::error_code problem;
    fs::create_directories(arguments_.output / "recordings", problem);
    if (problem)
      return cannot(system_error("cannot make " + arguments_.output.string(), problem.value()));
    const auto plan = order();
    for (std::size_t i = 0; i < plan.size(); ++i) {
      announce(plan[i], i, plan.size());
      if (auto done = play(plan[i]); !done) {
        if (interrupt_.raised()) break;
        [[maybe_unused]] const auto told = tell();
        return cannot(done.error());
      }
      if (auto written = write_results(); !written) return cannot(written.error());
    }
    return tell();
  }

 private:
  // Each repeat begins with another policy, so that what changes on the machine in the course of
  // the hours does not always hit the same one.
  std::vector<PolicyRun> order() const {
    std::vector<PolicyRun> plan;
    const auto count = setting_.policies.size();
    for (unsigned repeat = 0; repeat < setting_.repeats; ++repeat) {
      for (std::size_t position = 0; position < count; ++position) {
        PolicyRun run;
        run.policy = setting_.policies[(repeat + position) % count];
        run.repeat = static_cast<int>(repeat) + 1;
        run.position = static_cast<int>(position) + 1;
        run.schedule = setting_.schedule;
        plan.push_back(std::move(run));
      }
    }
    return plan;
  }

  void announce(const PolicyRun& run, std::size_t index, std::size_t count) {
    const auto& schedule = setting_.schedule;
    const auto left_s =
        static_cast<double>(count - index) * (schedule.lead_s + schedule.counted_s() + kAround_s);
    display_.heading("Run " + std::to_string(index + 1) + " of " + std::to_string(count) + ": " +
                     run.policy + ", repeat " + std::to_string(run.repeat) + " (about " +
                     std::to_string(static_cast<int>(left_s / 60) + 1) + " min left)");
  }

  // An error is for what would go wrong again in every run.
  Result<void> play(PolicyRun wanted) {
    world::WorldOptions options;
    options.keep = arguments_.keep;
    auto world = world::World::make(options);
    if (!world) return world.error();
    auto watched = watch_policy(std::move(wanted), setting_, arguments_.installation, *world,
                                display_, interrupt_);
    const bool failed = !interrupt_.raised() && (!watched || watched->run.problem);
    if (failed) world->keep();
    if (failed || arguments_.keep)
      display_.step("All logs are in " + world->directory().string() + ".");
    if (!watched) return watched.error();
    setting_.qemu_version = watched->qemu_version;
    setting_.accelerator = watched->accelerator;
    const auto& run = watched->run;
    if (run.problem) {
      display_.bad(*run.problem);
    } else {
      const auto measured = measure(run);
      display_.good(text_of(measured));
    }
    const auto name = run.policy + "-" + std::to_string(run.repeat) + ".json";
    runs_.push_back(run);
    return write_file(arguments_.output / "recordings" / name, watched->recording.dump(1) + "\n");
  }

  static std::string text_of(const MeasuredRun& run) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(2) << "stopped "
         << 100 * run.deterministic.stopped_ratio() << " % (deterministic), "
         << 100 * run.random.stopped_ratio() << " % (random); median reply " << std::setprecision(1)
         << run.deterministic.latencies.p50_ms << " ms, " << run.random.latencies.p50_ms
         << " ms; in COLO mode " << std::setprecision(0) << 100 * run.deterministic.colo_share()
         << " %, " << 100 * run.random.colo_share() << " %";
    return text.str();
  }

  // After each run, so that what is finished is kept whatever happens.
  Result<void> write_results() {
    const auto& output = arguments_.output;
    const std::vector<std::pair<const char*, std::string>> files{
        {"results.json", to_json(setting_, runs_).dump(2) + "\n"},
        {"summary.csv", summary_csv(runs_)},
        {"modes.csv", modes_csv(runs_)},
        {"latency.csv", latency_csv(runs_)},
        {"table.md", table_markdown(setting_, runs_)}};
    for (const auto& [name, text] : files)
      if (auto written = write_file(output / name, text); !written) return written;
    return plot();
  }

  Result<void> plot() {
    for (const auto& policy : setting_.policies) {
      // A mode that never changes needs no picture.
      if (policy == "periodic" || policy == "colo") continue;
      const auto name = "modes-" + policy;
      const auto script = gnuplot_script(runs_, policy, name + ".svg");
      if (script.empty()) continue;
      const auto file = arguments_.output / (name + ".gnuplot");
      if (auto written = write_file(file, script); !written) return written;
      world::SpawnOptions gnuplot;
      // The script names its picture without a folder, so that both can be moved.
      gnuplot.argv = {"env", "-C", arguments_.output.string(), "gnuplot", name + ".gnuplot"};
      if (auto drawn = world::run(gnuplot, kPlotTimeout); !drawn && !plot_complained_) {
        // The numbers are there; the script draws them wherever gnuplot is.
        display_.bad("no plots: " + drawn.error().message);
        plot_complained_ = true;
      }
    }
    return {};
  }

  int cannot(const Error& error) {
    display_.clear_status();
    complain(error.message);
    return kCannotRun;
  }

  int tell() {
    display_.clear_status();
    const auto held = verdicts(runs_);
    auto& out = arguments_.json == "-" ? std::cerr : std::cout;
    if (!runs_.empty()) {
      out << table_markdown(setting_, runs_) << "\n" << to_text(held);
      out << "All results are in " << arguments_.output.string() << ".\n";
    }
    if (!arguments_.json.empty())
      if (auto written = world::write_json(arguments_.json, to_json(setting_, runs_)); !written)
        return cannot(written.error());
    if (interrupt_.raised()) return kInterrupted;
    const auto failed = [](const PolicyRun& run) { return run.problem.has_value(); };
    if (std::ranges::any_of(runs_, failed)) return kFailed;
    const auto holds = [](const Verdict& one) { return one.outcome == Verdict::Outcome::holds; };
    return !arguments_.enforce || std::ranges::all_of(held, holds) ? kPassed : kFailed;
  }

  const Arguments& arguments_;
  PoliciesSetting setting_;
  demo::Interrupt interrupt_;
  demo::Display display_;
  std::vector<PolicyRun> runs_;
  bool plot_complained_ = false;
};

void add_options(CLI::App& app, Arguments& arguments) {
  auto& setting = arguments.setting;
  auto& schedule = setting.schedule;
  auto* repeats = app.add_option("--repeats", setting.repeats, "runs of each policy")
                      ->check(CLI::Range(1U, 100U))
                      ->capture_default_str();
  auto* phase = app.add_option("--phase", schedule.phase_s, "seconds of each phase")
                    ->check(CLI::Range(1.0, 3600.0))
                    ->capture_default_str();
  auto* cycles = app.add_option("--cycles", schedule.cycles,
                                "times that a random and a deterministic phase follow")
                     ->check(CLI::Range(1, 100))
                     ->capture_default_str();
  auto* lead = app.add_option("--lead", schedule.lead_s,
                              "seconds of deterministic replies before, which are not counted")
                   ->check(CLI::Range(0.0, 3600.0))
                   ->capture_default_str();
  app.add_flag("--quick", arguments.quick,
               "one repeat of one cycle with phases of 6 s, to see whether it works at all")
      ->excludes(repeats, phase, cycles, lead);
  app.add_option("--policies", setting.policies, "which ones, in the order of the first repeat")
      ->delimiter(',')
      ->check(CLI::IsMember(kPolicies))
      ->default_str("all five");
  app.add_option("--rate", setting.rate, "requests a second")
      ->check(CLI::Range(1.0, 1000.0))
      ->capture_default_str();
  app.add_option("--pages", setting.pages, "pages of 4 KiB that each request writes to, of 32 MiB")
      ->check(CLI::Range(0U, 8192U))
      ->capture_default_str();
  app.add_option("--output", arguments.output,
                 "folder that gets all results, written after each run")
      ->take_last()
      ->capture_default_str();
  app.add_option("--json", arguments.json,
                 "write the results to this file, too; - for standard output");
  app.add_flag("--enforce", arguments.enforce,
               "fail, too, unless every statement about the policies holds");
  world::add_options(app, arguments.installation);
  app.add_flag("--keep", arguments.keep, "keep the logs");
  app.add_flag("--verbose", arguments.verbose, "tell more");
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  using namespace tandem;
  bench::Arguments arguments;
  auto& setting = arguments.setting;
  setting.rate = 50;
  setting.pages = 64;
  setting.repeats = 3;
  setting.processors = std::max(1U, std::thread::hardware_concurrency());
  CLI::App app{
      "Runs a service whose replies are deterministic and random in turn under each policy, on\n"
      "a pair of its own, while a client asks at a steady rate. Tells how long the VM stood\n"
      "still, how long replies took, and which mode the pair was in when. Everything happens in\n"
      "private namespaces: nothing of this machine's network is touched. Ends with status 1 if a\n"
      "run fails. Ctrl-C ends it; the results of finished runs are kept.\n",
      "tandem-bench-policies"};
  bench::add_options(app, arguments);
  CLI11_PARSE(app, argc, argv);
  if (setting.policies.empty()) setting.policies = bench::kPolicies;
  auto sorted = setting.policies;
  std::ranges::sort(sorted);
  if (std::ranges::adjacent_find(sorted) != sorted.end()) {
    bench::complain("--policies names one twice: --repeats says how often each is run");
    return bench::kCannotRun;
  }
  if (arguments.quick) {
    setting.repeats = 1;
    setting.schedule = {.lead_s = 2, .phase_s = 6, .cycles = 1};
  }
  arguments.installation.set_defaults();
  if (auto ready = arguments.installation.check(); !ready) {
    bench::complain(ready.error().message);
    return bench::kCannotRun;
  }
  if (auto inside = world::enter_sandbox(); !inside) {
    bench::complain(inside.error().message);
    return bench::kCannotRun;
  }
  return bench::Benchmark(arguments).run();
}
