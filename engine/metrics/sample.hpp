// What a host says of itself to Prometheus at one instant, as values: taken on the threads of the
// VMs, put into words by exposition.hpp.
#pragma once

#include <prometheus/client_metric.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "controller/observation.hpp"
#include "proxy/comparer.hpp"

namespace tandem::metrics {

/// What only ever grows as long as the daemon lives. Doubles, as Prometheus' own values are.
struct Totals {
  double checkpoints_begun = 0;
  double checkpoints_committed = 0;
  double checkpoints_loaded = 0;
  double running_seconds = 0;
  double stopped_seconds = 0;
  double dirty_bytes = 0;
  double wire_bytes = 0;
  double gate_captured_frames = 0;
  double gate_released_frames = 0;
  double gate_dropped_frames = 0;
  double gate_drained_frames = 0;
  double compare_released_frames = 0;
  double compare_split_frames = 0;
  double compare_committed_frames = 0;
  double compare_dropped_frames = 0;
  double compare_secondary_frames = 0;
  double compare_stale_frames = 0;
  double compare_equal_bytes = 0;
  std::array<double, proxy::reason_count> mismatches{};  ///< by proxy::Reason
  double mismatch_checkpoints = 0;
  double input_mirrored_frames = 0;
  double input_fed_frames = 0;
  double input_stale_frames = 0;
  double input_dropped_frames = 0;
  double mode_changes = 0;
  std::array<double, controller::reason_count> decisions{};  ///< by controller::Reason
  double failovers = 0;

  Totals& operator+=(const Totals& other) noexcept;
  friend bool operator==(const Totals&, const Totals&) = default;
};

/// The larger one of each.
Totals max(const Totals& a, const Totals& b) noexcept;

/// What is so now; what is not known, or makes no sense now, is left out.
struct Gauges {
  double qemu_running = 0;
  double is_protected = 0;
  double generation = 0;
  double checkpoints_in_flight = 0;
  double checkpoint_largest_bytes = 0;
  double gate_held_frames = 0;
  double gate_held_bytes = 0;
  double compare_waiting_frames = 0;
  double compare_waiting_bytes = 0;
  double compare_flows = 0;
  double translated_connections = 0;
  std::optional<double> downtime_ratio;
  std::optional<double> downtime_ratio_bound;
  std::optional<double> checkpoints_per_second;
};

/// The last take-over, as docs/api.md has it.
struct Failover {
  double time_seconds = 0;  ///< Unix time
  double detection_seconds = 0, decision_seconds = 0, load_seconds = 0, running_seconds = 0;
};

struct VmSample {
  std::string vm;
  std::string role, state, policy;
  std::string peer;  ///< empty: none
  std::string mode;  ///< empty: not protected
  Totals totals;
  Gauges now;
  std::optional<Failover> failover;
  prometheus::ClientMetric pause;           ///< a histogram
  prometheus::ClientMetric commit_latency;  ///< a histogram
};

struct HostSample {
  std::string host, version;
  std::string qemu_version, accelerator;        ///< empty: not known yet, or not usable
  std::map<std::string, std::uint64_t> events;  ///< how many of each type
  double cpu_seconds = 0;                       ///< of the worker
  double resident_bytes = 0;
  double start_time_seconds = 0;
};

/// Fills in what concerns this process.
void measure_process(HostSample& sample);

}  // namespace tandem::metrics
