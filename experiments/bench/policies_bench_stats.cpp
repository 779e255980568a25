#include "experiments/bench/policies_bench_stats.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

namespace tandem::bench {
namespace {

constexpr double kBackLimit_s = 15;
constexpr const char* kColo = "colo";

/// A stretch of time in one mode.
struct Stretch {
  double from_s = 0, to_s = 0;
  bool colo = false;
};

/// What lies in [from, to), cut there. Two changes to the same mode are one stretch.
std::vector<Stretch> stretches(const std::vector<ModeChange>& modes, double from_s, double to_s) {
  std::vector<Stretch> all;
  const auto add = [&](double begin_s, double end_s, bool colo) {
    begin_s = std::max(begin_s, from_s);
    end_s = std::min(end_s, to_s);
    if (begin_s >= end_s) return;
    if (!all.empty() && all.back().colo == colo) {
      all.back().to_s = end_s;
    } else {
      all.push_back({begin_s, end_s, colo});
    }
  };
  double begin_s = from_s;
  bool colo = false;
  for (const auto& change : modes) {
    add(begin_s, change.at_s, colo);
    begin_s = change.at_s;
    colo = change.mode == kColo;
  }
  add(begin_s, to_s, colo);
  return all;
}

double colo_seconds(const std::vector<ModeChange>& modes, double from_s, double to_s) {
  double sum_s = 0;
  for (const auto& stretch : stretches(modes, from_s, to_s))
    if (stretch.colo) sum_s += stretch.to_s - stretch.from_s;
  return sum_s;
}

std::optional<double> back_in_colo(const std::vector<ModeChange>& modes, const Span& span) {
  for (const auto& stretch : stretches(modes, span.from_s, span.to_s)) {
    const bool lasts = stretch.to_s - stretch.from_s >= MeasuredPhase::settled_s;
    if (stretch.colo && (lasts || stretch.to_s == span.to_s)) return stretch.from_s - span.from_s;
  }
  return std::nullopt;
}

std::vector<Stay> stays_within(const std::vector<ModeChange>& modes, const Span& span) {
  std::vector<Stay> stays;
  const ModeChange* left = nullptr;  // colo mode, for a stay in periodic mode
  for (const auto& change : modes) {
    if (change.at_s < span.from_s || change.at_s >= span.to_s) continue;
    if (change.mode != kColo) {
      if (left == nullptr) left = &change;
    } else if (left != nullptr) {
      stays.push_back({left->at_s, change.at_s, change.checkpoint - left->checkpoint});
      left = nullptr;
    }
  }
  return stays;
}

using LatencyList = std::vector<survival::Account::Latency>;

void add(Part& to, const Part& part) {
  to.seconds += part.seconds;
  to.stopped_ms += part.stopped_ms;
  to.checkpoints += part.checkpoints;
  to.mismatches += part.mismatches;
  to.colo_s += part.colo_s;
}

std::string text_of(const char* format, double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

std::string list_of(const std::vector<std::string>& items, const char* between) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : between) + item;
  return text;
}

/// The runs of a policy that were watched to their end.
std::vector<MeasuredRun> measured(std::span<const PolicyRun> runs, std::string_view policy) {
  std::vector<MeasuredRun> all;
  for (const auto& run : runs)
    if (run.policy == policy && !run.problem) all.push_back(measure(run));
  return all;
}

Verdict watched_to_the_end(std::span<const PolicyRun> runs) {
  Verdict verdict{"every run was watched to its end", Verdict::Outcome::holds,
                  std::to_string(runs.size()) + " runs"};
  if (runs.empty()) verdict.outcome = Verdict::Outcome::not_shown;
  for (const auto& run : runs) {
    if (!run.problem) continue;
    verdict.outcome = Verdict::Outcome::broken;
    verdict.evidence = run.policy + ", repeat " + std::to_string(run.repeat) + ": " + *run.problem;
  }
  return verdict;
}

Verdict goes_back(std::span<const PolicyRun> runs, const std::string& policy) {
  Verdict verdict;
  verdict.statement = policy + " is back in colo mode within " + text_of("%.0f", kBackLimit_s) +
                      " s of each deterministic phase's begin";
  std::vector<std::string> times;
  bool all_in_time = true;
  for (const auto& run : measured(runs, policy)) {
    for (const auto& phase : run.phases) {
      if (phase.span.replies != Replies::deterministic) continue;
      times.push_back(phase.back_s ? text_of("%.1f s", *phase.back_s) : "never");
      all_in_time = all_in_time && phase.back_s && *phase.back_s <= kBackLimit_s;
    }
  }
  if (times.empty()) return verdict;
  verdict.outcome = all_in_time ? Verdict::Outcome::holds : Verdict::Outcome::broken;
  verdict.evidence = list_of(times, ", ");
  return verdict;
}

Verdict stays_grow(std::span<const PolicyRun> runs, const std::string& policy) {
  Verdict verdict;
  verdict.statement = policy + "'s stays in periodic mode get longer within each random phase";
  std::vector<std::string> phases;
  bool all_grow = true, all_shown = true;
  for (const auto& run : measured(runs, policy)) {
    for (const auto& phase : run.phases) {
      if (phase.span.replies != Replies::random) continue;
      std::vector<std::string> lengths;
      for (const auto& stay : phase.stays) lengths.push_back(std::to_string(stay.checkpoints));
      phases.push_back(lengths.empty() ? "none" : list_of(lengths, " "));
      all_shown = all_shown && phase.stays.size() >= 2;
      all_grow = all_grow && std::ranges::is_sorted(phase.stays, {}, &Stay::checkpoints);
      if (!phase.stays.empty())
        all_grow = all_grow && (phase.stays.size() < 2 ||
                                phase.stays.back().checkpoints > phase.stays.front().checkpoints);
    }
  }
  if (phases.empty()) return verdict;
  verdict.evidence = "checkpoints, by phase: " + list_of(phases, "; ");
  if (!all_grow) {
    verdict.outcome = Verdict::Outcome::broken;
  } else if (all_shown) {
    verdict.outcome = Verdict::Outcome::holds;
  }
  return verdict;
}

std::string percent(const Spread& spread) {
  return text_of("%.2f %%", 100 * spread.median) + text_of(" (%.2f to ", 100 * spread.least) +
         text_of("%.2f)", 100 * spread.greatest);
}

/// The spread among the repeats is all that is known of the noise, so that no less is asked than
/// that a difference is larger than it: that the two spreads do not touch.
Verdict downtime_is_not_above(std::span<const PolicyRun> runs, const std::string& policy) {
  Verdict verdict;
  verdict.statement = policy +
                      "'s downtime is not above that of the better fixed mode, as far as "
                      "repeats can tell";
  const auto ratios = [&](const std::string& name) {
    std::vector<double> values;
    for (const auto& run : measured(runs, name)) values.push_back(run.all.stopped_ratio());
    return values;
  };
  const auto own = ratios(policy);
  std::optional<Spread> best;
  std::string best_name;
  std::size_t repeats = own.size();
  for (const std::string name : {"periodic", "colo"}) {
    const auto values = ratios(name);
    repeats = std::min(repeats, values.size());
    const auto fixed = spread(values);
    if (!fixed) return verdict;
    if (best && best->median <= fixed->median) continue;
    best = fixed;
    best_name = name;
  }
  const auto mine = spread(own);
  if (!mine) return verdict;
  verdict.evidence = policy + " " + percent(*mine) + ", " + best_name + " " + percent(*best);
  if (repeats < 2) {
    verdict.evidence += "; one repeat does not tell how much of it is noise";
    return verdict;
  }
  verdict.outcome =
      mine->least > best->greatest ? Verdict::Outcome::broken : Verdict::Outcome::holds;
  return verdict;
}

}  // namespace

MeasuredRun measure(const PolicyRun& run) {
  MeasuredRun result;
  LatencyList all, deterministic, random;
  const auto summary_of = [&](const LatencyList& latencies) {
    const auto end = run.begin + std::chrono::ceil<survival::Time::duration>(
                                     std::chrono::duration<double>(run.schedule.counted_s()));
    return summarise(latencies, run.begin, end);
  };
  const auto spans = run.schedule.spans();
  for (std::size_t i = 0; i < spans.size() && i + 1 < run.counted.size(); ++i) {
    const auto& from = run.counted[i];
    const auto& to = run.counted[i + 1];
    MeasuredPhase phase;
    phase.span = spans[i];
    auto& part = phase.part;
    part.seconds = to.at_s - from.at_s;
    part.stopped_ms = to.stopped_ms - from.stopped_ms;
    part.checkpoints = to.checkpoints - from.checkpoints;
    part.mismatches = static_cast<std::uint64_t>(std::ranges::count_if(
        run.mismatches, [&](double at_s) { return at_s >= from.at_s && at_s < to.at_s; }));
    part.colo_s = colo_seconds(run.modes, from.at_s, to.at_s);
    const bool is_random = phase.span.replies == Replies::random;
    LatencyList own;
    for (const auto& latency : run.latencies) {
      const auto due_s = std::chrono::duration<double>(latency.asked - run.begin).count();
      if (due_s >= phase.span.from_s && due_s < phase.span.to_s) own.push_back(latency);
    }
    part.latencies = summary_of(own);
    auto& kind = is_random ? random : deterministic;
    kind.insert(kind.end(), own.begin(), own.end());
    all.insert(all.end(), own.begin(), own.end());
    if (is_random) {
      phase.stays = stays_within(run.modes, phase.span);
    } else {
      phase.back_s = back_in_colo(run.modes, phase.span);
    }
    add(result.all, part);
    add(is_random ? result.random : result.deterministic, part);
    result.phases.push_back(std::move(phase));
  }
  result.all.latencies = summary_of(all);
  result.deterministic.latencies = summary_of(deterministic);
  result.random.latencies = summary_of(random);
  return result;
}

std::string_view to_string(Verdict::Outcome outcome) noexcept {
  switch (outcome) {
    case Verdict::Outcome::holds:
      return "holds";
    case Verdict::Outcome::broken:
      return "broken";
    case Verdict::Outcome::not_shown:
      return "not shown";
  }
  return "unknown";
}

std::vector<Verdict> verdicts(std::span<const PolicyRun> runs) {
  return {watched_to_the_end(runs), goes_back(runs, "hybrid"), goes_back(runs, "adaptive"),
          stays_grow(runs, "hybrid"), downtime_is_not_above(runs, "adaptive")};
}

std::optional<Spread> spread(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::ranges::sort(values);
  const auto middle = values.size() / 2;
  const auto median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return Spread{median, values.front(), values.back()};
}

}  // namespace tandem::bench
