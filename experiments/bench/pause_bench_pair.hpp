// The pairs that the pause benchmark compares: two stock QEMUs connected to each other, and the
// same with tandemd between them. All of one guest, one command line, one pair of hosts.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "engine/hypervisor/local_hypervisor.hpp"
#include "experiments/bench/pause_bench_monitor.hpp"
#include "experiments/bench/pause_bench_stats.hpp"
#include "experiments/demo/interrupt.hpp"
#include "experiments/world/world.hpp"

namespace tandem::bench {

/// What all pairs have in common.
struct Bench {
  world::World& world;
  demo::Interrupt& interrupt;
  world::DaemonOptions daemon;  ///< without VMs
  std::filesystem::path kernel, initrd;
  std::string kernel_arguments;
  std::chrono::milliseconds period{250};
};

/// The error that a Ctrl-C makes of whatever is under way.
Error interrupted();

/// How often a row's memory is written anew: a pass over it every 100 ms fits into each run of the
/// VM between two checkpoints.
inline constexpr int kPassesPerSecond = 10;

/// A protected VM whose guest writes as much as it is told to.
class Pair {
 public:
  enum class Kind { stock_tcp, stock_unix, tandem };

  /// Starts the primary's QEMU and guest; protect() does the rest, once the guest has booted.
  static Result<std::unique_ptr<Pair>> boot(const Bench& bench, Kind kind);
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  [[nodiscard]] const char* name() const noexcept;
  Result<void> wait_until_booted();
  /// Leaves the pair protected, its guest idle, and almost without checkpoints.
  Result<void> protect();

  /// The guest writes `mib` between any two checkpoints from now on; `paced`: see Row::paced.
  Result<void> work(long mib, bool paced);
  /// The guest writes nothing, and there are almost no checkpoints.
  Result<void> rest();
  /// Watches for `time`, and longer if there are too few pauses (at most three times as long).
  Result<Samples> observe(std::chrono::milliseconds time);

  /// The QEMU that runs it, as the hypervisor driver sees it.
  [[nodiscard]] const hypervisor::QemuProbe& qemu() const noexcept { return probe_; }

 private:
  Pair(const Bench& bench, Kind kind);
  Result<void> boot_stock();
  Result<void> boot_tandem();
  Result<void> protect_stock();
  Result<void> protect_tandem();
  Result<hypervisor::VmDefinition> definition(const std::string& tap) const;
  Result<std::optional<std::uint64_t>> stream_bytes() const;
  /// One question to the guest's service; true if it agreed.
  Result<bool> tell_guest(long mib, std::chrono::milliseconds patience) const;
  Result<void> set_size(long mib, std::chrono::milliseconds timeout) const;

  const Bench& bench_;
  Kind kind_;
  hypervisor::QemuProbe probe_;
  std::unique_ptr<NamespaceThread> alpha_, beta_;
  std::optional<hypervisor::LocalHypervisor> alpha_driver_, beta_driver_;
  std::optional<hypervisor::VmProcess> primary_process_, secondary_process_;
  std::optional<Monitor> primary_, secondary_;
  std::filesystem::path primary_log_;
  UniqueFd stream_;  // our copy of the stock primary's end, for its counters
};

}  // namespace tandem::bench
