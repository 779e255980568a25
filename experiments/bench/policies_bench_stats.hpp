// What the benchmark of policies has seen, and what follows from it. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experiments/bench/colo_bench_stats.hpp"
#include "experiments/bench/policies_bench_schedule.hpp"

namespace tandem::bench {

/// The pair has changed its mode; seconds are those of Span.
struct ModeChange {
  double at_s = 0;
  std::string mode, reason;
  std::uint64_t checkpoint = 0;
  nlohmann::json figures;  ///< what was decided from, by name; null if the daemon does not say
};

/// What the primary's status had counted by then.
struct Counted {
  double at_s = 0;
  double stopped_ms = 0;  ///< between QEMU's events STOP and RESUME
  std::uint64_t checkpoints = 0;
};

/// One policy, watched through the whole schedule.
struct PolicyRun {
  std::string policy;
  int repeat = 1;    ///< from 1
  int position = 1;  ///< in the order of its repeat, from 1
  Schedule schedule;
  survival::Time begin;  ///< of the first phase that counts
  std::vector<survival::Account::Latency> latencies;
  std::vector<ModeChange> modes;       ///< a pair begins in periodic mode
  std::vector<double> mismatches;      ///< when outputs differed, of each epoch the first time
  std::vector<Counted> counted;        ///< at each phase's begin, and at the end of the last
  double others_cpu = 0;               ///< processors that other programs kept busy
  std::optional<std::string> problem;  ///< why it was not watched to its end
};

/// Sums over a part of a run's time.
struct Part {
  double seconds = 0;
  double stopped_ms = 0;
  std::uint64_t checkpoints = 0, mismatches = 0;
  double colo_s = 0;  ///< in colo mode
  Latencies latencies;

  [[nodiscard]] double stopped_ratio() const noexcept {
    return seconds > 0 ? stopped_ms / 1000 / seconds : 0;
  }
  [[nodiscard]] double colo_share() const noexcept { return seconds > 0 ? colo_s / seconds : 0; }
};

/// Periodic mode between two epochs in colo mode.
struct Stay {
  double from_s = 0, to_s = 0;
  std::uint64_t checkpoints = 0;  ///< that it lasted
};

struct MeasuredPhase {
  Span span;
  Part part;
  /// Random replies: stays in periodic mode that began and ended in the phase.
  std::vector<Stay> stays;
  /// Deterministic replies: from the phase's begin until colo mode that lasts at least
  /// `settled_s`, or to the phase's end; nothing if there is none.
  std::optional<double> back_s;

  static constexpr double settled_s = 5;
};

struct MeasuredRun {
  Part all, deterministic, random;
  std::vector<MeasuredPhase> phases;
};

/// Of a run without a problem.
MeasuredRun measure(const PolicyRun& run);

/// A statement of the benchmark's purpose, held against the runs.
struct Verdict {
  enum class Outcome { holds, broken, not_shown };
  std::string statement;
  Outcome outcome = Outcome::not_shown;
  std::string evidence;
};
std::string_view to_string(Verdict::Outcome outcome) noexcept;

std::vector<Verdict> verdicts(std::span<const PolicyRun> runs);

/// Median, least and greatest of what was measured in the repeats.
struct Spread {
  double median = 0, least = 0, greatest = 0;
};
/// Nothing for no values.
std::optional<Spread> spread(std::vector<double> values);

}  // namespace tandem::bench
