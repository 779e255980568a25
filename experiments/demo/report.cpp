#include "experiments/demo/report.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace tandem::demo {
namespace {

// Three decimals of a millisecond are what the clocks are good for.
nlohmann::json number(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return nullptr;
  return std::round(*value * 1000) / 1000;
}

nlohmann::json number(std::optional<std::uint64_t> value) {
  if (!value) return nullptr;
  return *value;
}

}  // namespace

std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

nlohmann::json to_json(const RoundResult& round) {
  nlohmann::json json;
  json["seed"] = round.seed;
  json["kill"] = to_string(round.kind);
  json["failover_ms"] = number(round.failover_ms);
  json["client_outage_ms"] = number(round.client_outage_ms);
  json["connection_survived"] = round.connection_survived;
  json["acked_writes"] = round.acked_writes;
  json["lost_acked_writes"] = round.lost_acked_writes;
  json["checkpoints"] = number(round.checkpoints);
  json["pause_ms"] = {{"mean", number(round.pause_mean_ms)},
                      {"p50", number(round.pause_p50_ms)},
                      {"p99", number(round.pause_p99_ms)}};
  json["svm_stopped_ratio"] = number(round.svm_stopped_ratio);
  json["dirty_bytes"] = number(round.dirty_bytes);
  json["wire_bytes"] = number(round.wire_bytes);
  json["split"] = {{"detection_ms", number(round.split.detection_ms)},
                   {"decision_ms", number(round.split.decision_ms)},
                   {"load_ms", number(round.split.load_ms)},
                   {"running_ms", number(round.split.running_ms)},
                   {"first_reply_ms", number(round.split.first_reply_ms)}};
  json["survivor"] = round.survivor.empty() ? nlohmann::json() : nlohmann::json(round.survivor);
  return json;
}

nlohmann::json to_json(const QemuFacts& qemu, const std::vector<RoundResult>& rounds) {
  nlohmann::json list = nlohmann::json::array();
  std::vector<double> outages;
  std::map<std::string, std::vector<double>> by_kill;
  std::uint64_t acked = 0;
  std::uint64_t lost = 0;
  std::uint64_t checkpoints = 0;
  std::size_t survived = 0;
  std::size_t failed = 0;
  for (const auto& round : rounds) {
    list.push_back(to_json(round));
    auto& same_kill = by_kill[std::string(to_string(round.kind))];
    if (round.client_outage_ms) {
      outages.push_back(*round.client_outage_ms);
      same_kill.push_back(*round.client_outage_ms);
    }
    acked += round.acked_writes;
    lost += round.lost_acked_writes;
    checkpoints += round.checkpoints.value_or(0);
    survived += round.connection_survived ? 1 : 0;
    failed += round.passed() ? 0 : 1;
  }
  nlohmann::json per_kill = nlohmann::json::object();
  for (const auto& [kill, values] : by_kill) per_kill[kill] = number(median(values));
  nlohmann::json json;
  json["qemu"] = {{"version", qemu.version}, {"accel", qemu.accel}, {"shim", qemu.shim}};
  json["rounds"] = std::move(list);
  json["summary"] = {{"client_outage_ms_median", number(median(outages))},
                     {"client_outage_ms_median_by_kill", std::move(per_kill)},
                     {"rounds", rounds.size()},
                     {"rounds_failed", failed},
                     {"connections_survived", survived},
                     {"acked_writes", acked},
                     {"lost_acked_writes", lost},
                     {"checkpoints", checkpoints}};
  return json;
}

std::vector<std::string> broken_promises(const std::vector<RoundResult>& rounds) {
  constexpr double outage_median_max_ms = 700;
  constexpr double goes_on_in_place_max_ms = 1000;
  std::vector<std::string> broken;
  std::vector<double> outages;
  for (const auto& round : rounds) {
    const auto name =
        "--seed " + std::to_string(round.seed) + " --kill " + std::string(to_string(round.kind));
    // A wait that could not be measured is as long as any.
    const double outage = round.client_outage_ms.value_or(std::numeric_limits<double>::infinity());
    outages.push_back(outage);
    const bool in_place =
        round.kind == KillKind::secondary_host || round.kind == KillKind::primary_daemon;
    if (in_place && outage > goes_on_in_place_max_ms) {
      broken.push_back(name + ": the client waited " + std::to_string(outage) +
                       " ms; promised are " + std::to_string(goes_on_in_place_max_ms));
    }
  }
  const auto middle = median(outages);
  if (middle && *middle >= outage_median_max_ms) {
    broken.push_back("the median of the client's longest waits is " + std::to_string(*middle) +
                     " ms; promised are less than " + std::to_string(outage_median_max_ms));
  }
  return broken;
}

}  // namespace tandem::demo
