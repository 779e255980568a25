// What the benchmark of COLO mode has measured, as numbers, as a table and as a verdict.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experiments/survival/exchange.hpp"

namespace tandem::bench {

/// The latencies of replies. Quantiles are nearest ranks.
struct Latencies {
  std::uint64_t replies = 0;
  double mean_ms = 0, p50_ms = 0, p99_ms = 0, max_ms = 0;
  double replies_per_second = 0;
};

/// Of the requests that were made in [from, to).
Latencies summarise(std::span<const survival::Account::Latency> latencies, survival::Time from,
                    survival::Time to);

/// One way of running the VM, watched for a while.
struct Phase {
  std::string name;  ///< "unprotected", "periodic", "colo"
  double seconds = 0;
  Latencies open;             ///< at a steady rate
  Latencies closed;           ///< each request after the reply to the one before
  std::uint64_t replies = 0;  ///< on all connections, from its beginning to its end
  std::uint64_t checkpoints = 0;
  std::uint64_t mismatch_checkpoints = 0;
  std::map<std::string, std::uint64_t> mismatches;  ///< by reason
  std::optional<double> pause_mean_ms;
};

struct ColoBench {
  std::string qemu_version, accelerator;
  double rate = 0;  ///< requests a second, of the open loop
  std::vector<Phase> phases;
  std::vector<std::string> connection_problems;
};

/// The growth of a counter between two answers of GET /v1/vms/NAME; one that is missing is 0.
std::uint64_t growth(const nlohmann::json& before, const nlohmann::json& after,
                     const std::string& pointer);
/// The growth of each reason in /compare/mismatches.
std::map<std::string, std::uint64_t> mismatch_growth(const nlohmann::json& before,
                                                     const nlohmann::json& after);

nlohmann::json to_json(const ColoBench& bench);
/// A few lines for people.
std::string to_text(const ColoBench& bench);
/// A line for each promise of SPECIFICATION.md that is broken, and for each connection that died.
std::vector<std::string> broken_promises(const ColoBench& bench);

}  // namespace tandem::bench
