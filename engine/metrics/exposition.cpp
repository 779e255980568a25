#include "engine/metrics/exposition.hpp"

#include <prometheus/text_serializer.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>

namespace tandem::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

struct CounterInfo {
  const char* name;
  const char* help;
  double Totals::*value;
};

constexpr CounterInfo counters[] = {
    {"tandem_vm_checkpoints_begun_total",
     "Checkpoints that the VM was stopped for, on the primary's host.", &Totals::checkpoints_begun},
    {"tandem_vm_checkpoints_committed_total",
     "Checkpoints that the secondary's host has whole and verified.",
     &Totals::checkpoints_committed},
    {"tandem_vm_checkpoints_loaded_total", "Checkpoints that the secondary VM has loaded.",
     &Totals::checkpoints_loaded},
    {"tandem_vm_running_seconds_total", "Time in which this host's process of the VM ran it.",
     &Totals::running_seconds},
    {"tandem_vm_stopped_seconds_total",
     "Time in which this host's process of the VM kept it stopped.", &Totals::stopped_seconds},
    {"tandem_vm_dirty_bytes_total", "Page contents in checkpoints.", &Totals::dirty_bytes},
    {"tandem_vm_wire_bytes_total", "Bytes on the connections between the hosts.",
     &Totals::wire_bytes},
    {"tandem_vm_gate_captured_frames_total", "Frames of the VM that came to the gate.",
     &Totals::gate_captured_frames},
    {"tandem_vm_gate_released_frames_total", "Frames of the VM that left.",
     &Totals::gate_released_frames},
    {"tandem_vm_gate_dropped_frames_total",
     "Frames that were dropped: a secondary VM's output, or no room.",
     &Totals::gate_dropped_frames},
    {"tandem_vm_gate_drained_frames_total",
     "Of the captured frames, those found in the socket at a checkpoint.",
     &Totals::gate_drained_frames},
    {"tandem_vm_compare_released_frames_total",
     "Frames that left at once, since both VMs had sent the same.",
     &Totals::compare_released_frames},
    {"tandem_vm_compare_split_frames_total", "Frames of which a part left at once.",
     &Totals::compare_split_frames},
    {"tandem_vm_compare_committed_frames_total",
     "Frames that left when the next checkpoint was committed.", &Totals::compare_committed_frames},
    {"tandem_vm_compare_dropped_frames_total",
     "Frames of the primary VM that were dropped for want of room.",
     &Totals::compare_dropped_frames},
    {"tandem_vm_compare_secondary_frames_total", "Frames that the secondary VM has sent.",
     &Totals::compare_secondary_frames},
    {"tandem_vm_compare_stale_frames_total",
     "Frames of the secondary VM that came after the end of their epoch.",
     &Totals::compare_stale_frames},
    {"tandem_vm_compare_equal_bytes_total", "Payload that both VMs had sent alike.",
     &Totals::compare_equal_bytes},
    {"tandem_vm_mismatch_checkpoints_total",
     "Checkpoints that were asked for because the VMs' output differed.",
     &Totals::mismatch_checkpoints},
    {"tandem_vm_input_mirrored_frames_total", "Frames of clients that came for the secondary VM.",
     &Totals::input_mirrored_frames},
    {"tandem_vm_input_fed_frames_total", "Frames of clients that the secondary VM was given.",
     &Totals::input_fed_frames},
    {"tandem_vm_input_stale_frames_total",
     "Frames of clients left out, since the next checkpoint contained them.",
     &Totals::input_stale_frames},
    {"tandem_vm_input_dropped_frames_total",
     "Frames of clients that found no room on their way to the secondary VM.",
     &Totals::input_dropped_frames},
    {"tandem_vm_mode_changes_total", "Changes between periodic and colo mode.",
     &Totals::mode_changes},
    {"tandem_vm_failovers_total", "Pairs that ended by a loss, after which the VM went on here.",
     &Totals::failovers},
};

struct GaugeInfo {
  const char* name;
  const char* help;
  double Gauges::*value;
};

constexpr GaugeInfo gauges[] = {
    {"tandem_vm_qemu_running", "Whether this host has a QEMU process of the VM.",
     &Gauges::qemu_running},
    {"tandem_vm_protected", "Whether the VM would survive the loss of the primary's host.",
     &Gauges::is_protected},
    {"tandem_vm_generation", "How many times the pair was set up or has changed its primary.",
     &Gauges::generation},
    {"tandem_vm_checkpoints_in_flight",
     "Checkpoints begun and not committed; on the secondary's host: committed and not loaded.",
     &Gauges::checkpoints_in_flight},
    {"tandem_vm_checkpoint_largest_bytes", "The largest checkpoint of this protection.",
     &Gauges::checkpoint_largest_bytes},
    {"tandem_vm_gate_held_frames", "Frames of the VM that wait for a commit.",
     &Gauges::gate_held_frames},
    {"tandem_vm_gate_held_bytes", "Output of the VM that waits for a commit.",
     &Gauges::gate_held_bytes},
    {"tandem_vm_compare_waiting_frames", "Frames of the primary VM that wait for the secondary's.",
     &Gauges::compare_waiting_frames},
    {"tandem_vm_compare_waiting_bytes", "Output of both VMs that waits to be compared.",
     &Gauges::compare_waiting_bytes},
    {"tandem_vm_compare_flows", "Flows that the comparer knows.", &Gauges::compare_flows},
    {"tandem_vm_translated_connections", "TCP connections whose numbers are translated.",
     &Gauges::translated_connections},
};

struct OptionalGaugeInfo {
  const char* name;
  const char* help;
  std::optional<double> Gauges::*value;
};

constexpr OptionalGaugeInfo optional_gauges[] = {
    {"tandem_vm_downtime_ratio",
     "Average pause over average uptime in the controller's window, on the primary's host.",
     &Gauges::downtime_ratio},
    {"tandem_vm_downtime_ratio_bound",
     "The downtime ratio above which the policy leaves colo mode, where it has one.",
     &Gauges::downtime_ratio_bound},
    {"tandem_vm_checkpoints_per_second", "In the controller's window, on the primary's host.",
     &Gauges::checkpoints_per_second},
};

struct FailoverInfo {
  const char* phase;
  double Failover::*value;
};

constexpr FailoverInfo failover_phases[] = {
    {"detection", &Failover::detection_seconds},
    {"decision", &Failover::decision_seconds},
    {"load", &Failover::load_seconds},
    {"running", &Failover::running_seconds},
};

MetricFamily family(const char* name, const char* help, MetricType type) {
  return {name, help, type, {}};
}

/// One time series, in the place where its family's values lie.
ClientMetric& add(MetricFamily& family, std::vector<ClientMetric::Label> labels) {
  auto& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  return metric;
}

void add(MetricFamily& family, std::vector<ClientMetric::Label> labels, double value) {
  auto& metric = add(family, std::move(labels));
  (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
}

void collect_host(const HostSample& host, std::vector<MetricFamily>& out) {
  auto build = family("tandem_build_info", "Always 1; which Tandem this is.", MetricType::Gauge);
  add(build, {{"version", host.version}}, 1);
  out.push_back(std::move(build));
  auto info = family("tandem_host_info",
                     "Always 1; the host's name and its QEMU (empty while that is not known).",
                     MetricType::Gauge);
  add(info,
      {{"host", host.host}, {"qemu_version", host.qemu_version}, {"accelerator", host.accelerator}},
      1);
  out.push_back(std::move(info));
  auto events = family("tandem_events_total", "Events of this host.", MetricType::Counter);
  for (const auto& [type, count] : host.events) {
    add(events, {{"type", type}}, static_cast<double>(count));
  }
  out.push_back(std::move(events));
  const auto one = [&](const char* name, const char* help, MetricType type, double value) {
    auto metric = family(name, help, type);
    add(metric, {}, value);
    out.push_back(std::move(metric));
  };
  one("process_cpu_seconds_total", "Processor time of tandemd's worker.", MetricType::Counter,
      host.cpu_seconds);
  one("process_resident_memory_bytes", "Resident memory of tandemd's worker.", MetricType::Gauge,
      host.resident_bytes);
  one("process_start_time_seconds", "When tandemd's worker was started, Unix time.",
      MetricType::Gauge, host.start_time_seconds);
}

void collect_states(std::span<const VmSample> vms, std::vector<MetricFamily>& out) {
  auto info = family("tandem_vm_info", "Always 1; what the VM is on this host.", MetricType::Gauge);
  auto mode =
      family("tandem_vm_mode", "1 for the mode of the epoch that runs, else 0.", MetricType::Gauge);
  for (const auto& vm : vms) {
    add(info,
        {{"vm", vm.vm},
         {"role", vm.role},
         {"state", vm.state},
         {"policy", vm.policy},
         {"peer", vm.peer}},
        1);
    for (const char* name : {"periodic", "colo"}) {
      add(mode, {{"vm", vm.vm}, {"mode", name}}, vm.mode == name ? 1 : 0);
    }
  }
  out.push_back(std::move(info));
  out.push_back(std::move(mode));
}

/// A counter that every VM has for each of `Reason`.
template <class Reason, std::size_t count>
void collect_by_reason(const char* name, const char* help, std::array<double, count> Totals::*value,
                       std::span<const VmSample> vms, std::vector<MetricFamily>& out) {
  auto counter = family(name, help, MetricType::Counter);
  for (const auto& vm : vms) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::string reason(to_string(static_cast<Reason>(i)));
      add(counter, {{"vm", vm.vm}, {"reason", reason}}, (vm.totals.*value)[i]);
    }
  }
  out.push_back(std::move(counter));
}

void collect_histograms(std::span<const VmSample> vms, std::vector<MetricFamily>& out) {
  auto pauses =
      family("tandem_vm_pause_seconds", "How long the primary VM stood still for a checkpoint.",
             MetricType::Histogram);
  auto commits = family("tandem_vm_commit_latency_seconds",
                        "From the primary VM's stop for a checkpoint until that is committed.",
                        MetricType::Histogram);
  for (const auto& vm : vms) {
    add(pauses, {{"vm", vm.vm}}).histogram = vm.pause.histogram;
    add(commits, {{"vm", vm.vm}}).histogram = vm.commit_latency.histogram;
  }
  out.push_back(std::move(pauses));
  out.push_back(std::move(commits));
}

void collect_failovers(std::span<const VmSample> vms, std::vector<MetricFamily>& out) {
  auto times = family("tandem_vm_last_failover_seconds",
                      "How long the steps of the last failover took.", MetricType::Gauge);
  auto when = family("tandem_vm_last_failover_timestamp_seconds",
                     "When the last failover ended, Unix time.", MetricType::Gauge);
  for (const auto& vm : vms) {
    if (!vm.failover) continue;
    for (const auto& phase : failover_phases) {
      add(times, {{"vm", vm.vm}, {"phase", phase.phase}}, *vm.failover.*phase.value);
    }
    add(when, {{"vm", vm.vm}}, vm.failover->time_seconds);
  }
  out.push_back(std::move(times));
  out.push_back(std::move(when));
}

double seconds_of(const timespec& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

namespace {

/// Calls `visit` with each number of both.
template <class A, class B, class Visit>
void each(A& a, B& b, Visit&& visit) {
  for (const auto& counter : counters) visit(a.*counter.value, b.*counter.value);
  for (std::size_t i = 0; i < a.mismatches.size(); ++i) visit(a.mismatches[i], b.mismatches[i]);
  for (std::size_t i = 0; i < a.decisions.size(); ++i) visit(a.decisions[i], b.decisions[i]);
}

}  // namespace

Totals& Totals::operator+=(const Totals& other) noexcept {
  each(*this, other, [](double& mine, double theirs) { mine += theirs; });
  return *this;
}

Totals max(const Totals& a, const Totals& b) noexcept {
  auto larger = a;
  each(larger, b, [](double& mine, double theirs) { mine = std::max(mine, theirs); });
  return larger;
}

std::vector<double> pause_buckets() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5};
}

std::vector<double> commit_latency_buckets() {
  return {0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
}

void measure_process(HostSample& sample) {
  timespec cpu{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  sample.cpu_seconds = seconds_of(cpu);
  std::uint64_t pages = 0;
  std::uint64_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident_pages;
  sample.resident_bytes =
      static_cast<double>(resident_pages) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  // Once: the difference of two clocks is not the same each time.
  static const double started = [] {
    std::string word;
    std::ifstream file("/proc/self/stat");
    constexpr int field_of_start = 22;
    // The program's name, in brackets, may contain blanks.
    std::getline(file, word, ')');
    double ticks = 0;
    for (int field = 3; field < field_of_start; ++field) file >> word;
    file >> ticks;
    timespec up{};
    ::clock_gettime(CLOCK_BOOTTIME, &up);
    const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
    return now.count() - seconds_of(up) + ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }();
  sample.start_time_seconds = started;
}

std::vector<MetricFamily> collect(const HostSample& host, std::span<const VmSample> vms) {
  std::vector<MetricFamily> out;
  collect_host(host, out);
  collect_states(vms, out);
  for (const auto& info : gauges) {
    auto& gauge = out.emplace_back(family(info.name, info.help, MetricType::Gauge));
    for (const auto& vm : vms) add(gauge, {{"vm", vm.vm}}, vm.now.*info.value);
  }
  for (const auto& info : optional_gauges) {
    auto& gauge = out.emplace_back(family(info.name, info.help, MetricType::Gauge));
    for (const auto& vm : vms) {
      if (const auto& value = vm.now.*info.value) add(gauge, {{"vm", vm.vm}}, *value);
    }
  }
  for (const auto& info : counters) {
    auto& counter = out.emplace_back(family(info.name, info.help, MetricType::Counter));
    for (const auto& vm : vms) add(counter, {{"vm", vm.vm}}, vm.totals.*info.value);
  }
  collect_by_reason<proxy::Reason>("tandem_vm_mismatches_total",
                                   "Differences between both VMs' output.", &Totals::mismatches,
                                   vms, out);
  collect_by_reason<controller::Reason>("tandem_vm_controller_decisions_total",
                                        "Decisions of the controller, one a checkpoint.",
                                        &Totals::decisions, vms, out);
  collect_histograms(vms, out);
  collect_failovers(vms, out);
  // A family without a series is nothing but two comments.
  std::erase_if(out, [](const MetricFamily& f) { return f.metric.empty(); });
  return out;
}

std::string to_text(const std::vector<MetricFamily>& families) {
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace tandem::metrics
