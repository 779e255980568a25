// What one decision of a policy costs, its window as full as it can be.
//
// usage: controller_bench [--enforce] [Google Benchmark's options]
// --enforce: exit status 1 if a decision takes longer than docs/benchmarks.md promises.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "controller/controller.hpp"

namespace {

using namespace tandem::controller;

constexpr double promised_ns = 5000;

/// So short that as many as a window keeps are within its length.
constexpr double pause_s = 0.001, uptime_s = 0.004;

Parameters parameters() {
  Parameters parameters;
  // `hybrid` must stay in COLO mode, where it has a window of its own and regulates its bound.
  parameters.hybrid_bound_start = parameters.hybrid_bound_max = parameters.hybrid_bound_min = 1000;
  // `threshold` must stay there too, with an average over as many cycles as it may be.
  parameters.threshold_average = 500;
  parameters.threshold_interval_ms = 1;
  return parameters;
}

/// Cycles that follow each other, in the mode that was decided.
class Cycles {
 public:
  explicit Cycles(Controller& controller) : controller_(controller) {}

  const Decision& next() {
    cycle_.mode = controller_.last().mode;
    cycle_.time_s += pause_s + uptime_s;
    // What is written varies, as it does.
    cycle_.bytes = cycle_.bytes % 5'000'000 + 1'000'000;
    decision_ = controller_.decide(cycle_);
    return decision_;
  }

 private:
  Controller& controller_;
  Observation cycle_{.pause_s = pause_s, .uptime_s = uptime_s, .mismatches = 1};
  Decision decision_;
};

Controller filled(Policy policy) {
  Controller controller(policy, parameters());
  Cycles cycles(controller);
  for (std::size_t i = 0; i < 2 * Window::cycles_max; ++i) cycles.next();
  if (controller.window().size() != Window::cycles_max) std::abort();
  return controller;
}

void decide(benchmark::State& state, Policy policy) {
  auto controller = filled(policy);
  Cycles cycles(controller);
  for (auto _ : state) benchmark::DoNotOptimize(cycles.next());
}

/// What is told of a decision: it is made for each, live.
void decide_and_tell(benchmark::State& state, Policy policy) {
  auto controller = filled(policy);
  Cycles cycles(controller);
  for (auto _ : state) {
    benchmark::DoNotOptimize(cycles.next());
    benchmark::DoNotOptimize(controller.figures());
  }
}

/// Prints what others print, and remembers what is too slow.
class Judge : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const auto& run : runs) {
      if (run.error_occurred || run.GetAdjustedCPUTime() <= promised_ns) continue;
      std::fprintf(stderr, "controller_bench: %s takes %.0f ns; at most %.0f ns are promised\n",
                   run.benchmark_name().c_str(), run.GetAdjustedCPUTime(), promised_ns);
      kept_ = false;
    }
  }
  [[nodiscard]] bool kept() const { return kept_; }

 private:
  bool kept_ = true;
};

}  // namespace

int main(int argc, char** argv) {
  bool enforce = false;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--enforce") {
      enforce = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const auto policy : policies) {
    const std::string name(to_string(policy));
    benchmark::RegisterBenchmark(("decide/" + name).c_str(), decide, policy);
    benchmark::RegisterBenchmark(("decide_and_tell/" + name).c_str(), decide_and_tell, policy);
  }
  Judge judge;
  benchmark::RunSpecifiedBenchmarks(&judge);
  return enforce && !judge.kept() ? 1 : 0;
}
