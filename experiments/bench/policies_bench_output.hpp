// The benchmark of policies on paper: JSON, CSV, a table in Markdown, and plots by gnuplot. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "experiments/bench/policies_bench_stats.hpp"

namespace tandem::bench {

/// What all runs have in common.
struct PoliciesSetting {
  Schedule schedule;
  double rate = 0;       ///< requests a second
  unsigned pages = 0;    ///< that each of them writes to
  unsigned repeats = 0;  ///< that were asked for
  std::vector<std::string> policies;
  std::string qemu_version, accelerator;
  unsigned processors = 0;
};

nlohmann::json to_json(const PoliciesSetting& setting, std::span<const PolicyRun> runs);

/// A row for each run and part of it: all, deterministic, random, and each phase by its number.
std::string summary_csv(std::span<const PolicyRun> runs);
/// A row for each change of mode.
std::string modes_csv(std::span<const PolicyRun> runs);
/// A row for each second of each run: quantiles of the replies whose requests were due in it.
std::string latency_csv(std::span<const PolicyRun> runs);

/// A row for each policy: medians of the repeats, with the least and the greatest.
std::string table_markdown(const PoliciesSetting& setting, std::span<const PolicyRun> runs);
/// The statements and what became of them, a line each.
std::string to_text(const std::vector<Verdict>& verdicts);

/// A script that draws a policy's mode and reply latency over time, with the random phases shaded,
/// to the file `svg`. Empty if there is no run of the policy to draw.
std::string gnuplot_script(std::span<const PolicyRun> runs, const std::string& policy,
                           const std::string& svg);

}  // namespace tandem::bench
