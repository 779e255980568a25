// What is killed in each round, and when: all of it follows from the seed, so that a round can be
// played again.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::demo {

enum class KillKind {
  primary_qemu,    ///< SIGKILL to the primary VM's QEMU
  primary_host,    ///< the primary host loses its cables, then all its processes
  secondary_host,  ///< the same for the secondary host
  primary_daemon,  ///< the worker of the primary host's daemon dies or hangs
};

/// "primary-qemu" and so on.
std::string_view to_string(KillKind kind) noexcept;
std::optional<KillKind> kill_kind_from_string(std::string_view name) noexcept;

struct RoundPlan {
  std::uint64_t seed = 0;
  KillKind kind = KillKind::primary_host;
  /// From protection to the kill: uniform from 2 s to 5 s, so that every phase of a checkpoint is
  /// hit.
  std::chrono::microseconds delay{0};
  /// primary_daemon only: SIGSTOP (it hangs) instead of SIGKILL (it dies).
  bool hang = false;
};

/// One round. The same seed and kind give the same plan on every machine.
RoundPlan plan_round(std::uint64_t seed, KillKind kind);

/// `rounds` rounds with the seeds seed, seed + 1, …; without a kind all kinds in equal share, in an
/// order that follows from the seed.
std::vector<RoundPlan> plan_rounds(std::uint64_t seed, std::size_t rounds,
                                   std::optional<KillKind> kind);

}  // namespace tandem::demo
