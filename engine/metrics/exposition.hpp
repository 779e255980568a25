// The metrics of tandemd in the words of Prometheus: their names, types, labels and help.
// docs/monitoring.md lists them, and a test compares.
#pragma once

#include <prometheus/metric_family.h>

#include <span>
#include <string>
#include <vector>

#include "engine/metrics/sample.hpp"

namespace tandem::metrics {

/// Upper bounds of the buckets, in seconds, of pauses and of commit latencies.
std::vector<double> pause_buckets();
std::vector<double> commit_latency_buckets();

std::vector<prometheus::MetricFamily> collect(const HostSample& host,
                                              std::span<const VmSample> vms);

/// Prometheus' text format, version 0.0.4.
inline constexpr const char* text_content_type = "text/plain; version=0.0.4; charset=utf-8";
std::string to_text(const std::vector<prometheus::MetricFamily>& families);

}  // namespace tandem::metrics
