// The result of a demonstration as JSON and as a verdict.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "experiments/demo/kill_plan.hpp"

namespace tandem::demo {

/// From the kill to the survivor's VM running, step by step, in milliseconds. A step that did not
/// happen (there is nothing to load when the primary stays) has no value.
struct FailoverSplit {
  std::optional<double> detection_ms;  ///< from the kill until the survivor noticed
  std::optional<double> decision_ms;   ///< until the arbiter had granted it to go on alone
  std::optional<double> load_ms;       ///< until the newest committed checkpoint was loaded
  std::optional<double> running_ms;    ///< until the VM ran
  std::optional<double>
      first_reply_ms;  ///< from the kill until the client had its first answer after that
};

struct RoundResult {
  std::uint64_t seed = 0;
  KillKind kind = KillKind::primary_host;
  std::optional<double> failover_ms;
  std::optional<double> client_outage_ms;
  bool connection_survived = false;
  std::uint64_t acked_writes = 0, lost_acked_writes = 0;
  std::optional<std::uint64_t> checkpoints;
  std::optional<double> pause_mean_ms, pause_p50_ms, pause_p99_ms;
  std::optional<double> svm_stopped_ratio;
  std::optional<std::uint64_t> dirty_bytes, wire_bytes;
  FailoverSplit split;
  std::string survivor;               ///< "alpha" or "beta"; empty: none, or both
  std::vector<std::string> failures;  ///< what was not as promised; empty: the round passed

  [[nodiscard]] bool passed() const noexcept { return failures.empty(); }
};

struct QemuFacts {
  std::string version, accel;
  bool shim = false;
};

nlohmann::json to_json(const RoundResult& round);
nlohmann::json to_json(const QemuFacts& qemu, const std::vector<RoundResult>& rounds);

/// The median; the mean of the middle two for an even number of values; nothing for none.
std::optional<double> median(std::vector<double> values);

/// The times that SPECIFICATION.md promises, held against a run of the demo: a line for each that
/// is broken.
std::vector<std::string> broken_promises(const std::vector<RoundResult>& rounds);

}  // namespace tandem::demo
