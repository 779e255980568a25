#include "experiments/bench/colo_bench_stats.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace tandem::bench {
namespace {

double in_ms(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

double rounded(double value) {
  return std::round(value * 1000) / 1000;
}

std::uint64_t count_at(const nlohmann::json& json, const std::string& pointer) {
  const nlohmann::json::json_pointer place(pointer);
  if (!json.contains(place) || !json.at(place).is_number_unsigned()) return 0;
  return json.at(place).get<std::uint64_t>();
}

const Phase* find(const ColoBench& bench, const std::string& name) {
  const auto found = std::ranges::find(bench.phases, name, &Phase::name);
  return found == bench.phases.end() ? nullptr : &*found;
}

nlohmann::json to_json(const Latencies& latencies) {
  return {{"replies", latencies.replies},
          {"replies_per_second", rounded(latencies.replies_per_second)},
          {"mean_ms", rounded(latencies.mean_ms)},
          {"p50_ms", rounded(latencies.p50_ms)},
          {"p99_ms", rounded(latencies.p99_ms)},
          {"max_ms", rounded(latencies.max_ms)}};
}

nlohmann::json ratio(const Latencies& of, const Latencies& to) {
  const auto divided = [](double a, double b) {
    return b > 0 ? nlohmann::json(rounded(a / b)) : nlohmann::json();
  };
  return {{"mean", divided(of.mean_ms, to.mean_ms)},
          {"p50", divided(of.p50_ms, to.p50_ms)},
          {"p99", divided(of.p99_ms, to.p99_ms)}};
}

double per_thousand(const Phase& phase) {
  if (phase.replies == 0) return 0;
  return 1000 * static_cast<double>(phase.mismatch_checkpoints) /
         static_cast<double>(phase.replies);
}

}  // namespace

Latencies summarise(std::span<const survival::Account::Latency> latencies, survival::Time from,
                    survival::Time to) {
  std::vector<double> times;
  double sum = 0;
  for (const auto& latency : latencies) {
    if (latency.asked < from || latency.asked >= to) continue;
    times.push_back(in_ms(latency.took));
    sum += times.back();
  }
  Latencies result;
  if (times.empty()) return result;
  std::ranges::sort(times);
  const auto count = static_cast<double>(times.size());
  const auto rank = [&](double share) {
    return times[static_cast<std::size_t>(std::ceil(share * count)) - 1];
  };
  result.replies = times.size();
  result.mean_ms = sum / count;
  result.p50_ms = rank(0.5);
  result.p99_ms = rank(0.99);
  result.max_ms = times.back();
  result.replies_per_second = count / (in_ms(to - from) / 1000);
  return result;
}

std::uint64_t growth(const nlohmann::json& before, const nlohmann::json& after,
                     const std::string& pointer) {
  const auto first = count_at(before, pointer);
  const auto last = count_at(after, pointer);
  return last > first ? last - first : 0;
}

std::map<std::string, std::uint64_t> mismatch_growth(const nlohmann::json& before,
                                                     const nlohmann::json& after) {
  std::map<std::string, std::uint64_t> reasons;
  const nlohmann::json::json_pointer place("/compare/mismatches");
  if (!after.contains(place) || !after.at(place).is_object()) return reasons;
  for (const auto& [reason, count] : after.at(place).items())
    reasons[reason] = growth(before, after, "/compare/mismatches/" + reason);
  return reasons;
}

nlohmann::json to_json(const ColoBench& bench) {
  nlohmann::json phases = nlohmann::json::array();
  for (const auto& phase : bench.phases) {
    phases.push_back(
        {{"name", phase.name},
         {"seconds", rounded(phase.seconds)},
         {"open", to_json(phase.open)},
         {"closed", to_json(phase.closed)},
         {"replies", phase.replies},
         {"checkpoints", phase.checkpoints},
         {"mismatch_checkpoints", phase.mismatch_checkpoints},
         {"mismatch_checkpoints_per_1000_replies", rounded(per_thousand(phase))},
         {"mismatches", phase.mismatches},
         {"pause_mean_ms",
          phase.pause_mean_ms ? nlohmann::json(rounded(*phase.pause_mean_ms)) : nlohmann::json()}});
  }
  nlohmann::json ratios = nlohmann::json::object();
  const auto* colo = find(bench, "colo");
  const auto* periodic = find(bench, "periodic");
  const auto* unprotected = find(bench, "unprotected");
  const auto add = [&](const std::string& name, const Phase* of, const Phase* to) {
    if (of == nullptr || to == nullptr) return;
    ratios[name] = {{"open", ratio(of->open, to->open)}, {"closed", ratio(of->closed, to->closed)}};
  };
  add("colo_to_unprotected", colo, unprotected);
  add("colo_to_periodic", colo, periodic);
  add("periodic_to_unprotected", periodic, unprotected);
  return {{"qemu", {{"version", bench.qemu_version}, {"accel", bench.accelerator}}},
          {"requests_per_second", bench.rate},
          {"phases", phases},
          {"ratios", ratios},
          {"connection_problems", bench.connection_problems}};
}

std::string to_text(const ColoBench& bench) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2);
  const auto times = [&](const Latencies& latencies) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(2) << latencies.p50_ms << " / " << latencies.p99_ms
         << " / " << latencies.max_ms;
    return text.str();
  };
  out << std::left << std::setw(13) << "" << std::setw(26) << "open loop, ms" << std::setw(26)
      << "closed loop, ms" << std::setw(12) << "closed, /s" << std::setw(10) << "replies"
      << std::setw(13) << "checkpoints"
      << "mismatches\n";
  for (const auto& phase : bench.phases) {
    out << std::setw(13) << phase.name << std::setw(26) << times(phase.open) << std::setw(26)
        << times(phase.closed) << std::setw(12) << phase.closed.replies_per_second << std::setw(10)
        << phase.replies << std::setw(13) << phase.checkpoints;
    out << phase.mismatch_checkpoints;
    for (const auto& [reason, count] : phase.mismatches)
      if (count > 0) out << " " << reason << " " << count;
    out << "\n";
  }
  out << "Times from a request to its reply: p50 / p99 / longest.\n";
  return out.str();
}

std::vector<std::string> broken_promises(const ColoBench& bench) {
  constexpr double mismatches_per_1000_max = 1;
  std::vector<std::string> broken;
  for (const auto& problem : bench.connection_problems)
    broken.push_back("a connection did not live through the modes: " + problem);
  for (const auto* name : {"unprotected", "periodic", "colo"}) {
    const auto* phase = find(bench, name);
    if (phase == nullptr || phase->open.replies == 0 || phase->closed.replies == 0)
      broken.push_back(std::string("nothing was measured: ") + name);
  }
  const auto* colo = find(bench, "colo");
  if (colo != nullptr && per_thousand(*colo) > mismatches_per_1000_max)
    broken.push_back(std::to_string(colo->mismatch_checkpoints) + " mismatch checkpoints in " +
                     std::to_string(colo->replies) + " replies; promised is at most 1 in 1,000");
  return broken;
}

}  // namespace tandem::bench
