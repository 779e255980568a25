// A sample in which nothing is missing, and every total is another number: what a protected VM says
// in the midst of its life.
#pragma once

#include <prometheus/histogram.h>

#include <array>
#include <bit>
#include <numeric>

#include "engine/metrics/exposition.hpp"

namespace tandem::metrics {

inline VmSample full_sample(const std::string& name) {
  VmSample vm;
  vm.vm = name;
  vm.role = "primary";
  vm.state = "protected";
  vm.policy = "hybrid";
  vm.peer = "beta";
  vm.mode = "colo";
  std::array<double, sizeof(Totals) / sizeof(double)> numbers{};
  std::iota(numbers.begin(), numbers.end(), 1e6);
  vm.totals = std::bit_cast<Totals>(numbers);
  vm.now.qemu_running = vm.now.is_protected = 1;
  vm.now.generation = 3;
  vm.now.gate_held_bytes = 12'345;
  vm.now.downtime_ratio = 0.0123456789;
  vm.now.downtime_ratio_bound = 0.1;
  vm.now.checkpoints_per_second = 3.9;
  vm.failover = Failover{1.7e9, 0.05, 0.06, 0.001, 0.03};
  prometheus::Histogram pauses(pause_buckets());
  pauses.Observe(0.004);
  pauses.Observe(0.04);
  vm.pause = pauses.Collect();
  prometheus::Histogram commits(commit_latency_buckets());
  commits.Observe(0.02);
  vm.commit_latency = commits.Collect();
  return vm;
}

inline HostSample full_host_sample() {
  HostSample host;
  host.host = "alpha";
  host.version = "0.1.0";
  host.qemu_version = "7.2.22";
  host.accelerator = "kvm";
  host.events = {{"protected", 2}, {"peer-lost", 1}};
  measure_process(host);
  return host;
}

}  // namespace tandem::metrics
