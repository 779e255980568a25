// What a controller sees, and what it says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "controller/mode.hpp"

namespace tandem::controller {

/// One cycle of a pair: the pause of the checkpoint that an epoch began with, and the epoch that
/// followed. Taken when the next checkpoint begins, so that what is decided holds from that
/// checkpoint on.
struct Observation {
  double time_s = 0;           ///< of this moment; monotonic, from any origin
  Mode mode = Mode::periodic;  ///< that the epoch was run in
  double pause_s = 0;          ///< the VM stood still for the checkpoint that the epoch began with
  double uptime_s = 0;         ///< the VM ran in the epoch
  std::uint64_t bytes = 0;     ///< pages in the checkpoint that the epoch began with
  std::uint64_t mismatches = 0;  ///< differences of output that ended the epoch; 0: it was due

  friend bool operator==(const Observation&, const Observation&) = default;
};

/// What led to the mode of the next epoch.
enum class Reason {
  start,       ///< nothing that counts has been seen yet
  fixed,       ///< the policy knows one mode only
  stay,        ///< nothing speaks against the present mode
  frequent,    ///< threshold: checkpoints come too often in colo mode
  stay_over,   ///< threshold, hybrid: the stay in periodic mode is over
  over_bound,  ///< hybrid: the downtime ratio is above its bound
  costly,      ///< adaptive: colo mode costs more downtime than periodic mode would
  probe,       ///< adaptive: what the other mode may gain is worth a trial
};
inline constexpr std::size_t reason_count = static_cast<std::size_t>(Reason::probe) + 1;
std::string_view to_string(Reason reason) noexcept;

/// The reason of `threshold` and `hybrid` after an epoch in the other mode than the wanted one.
constexpr Reason unseen(Mode wanted) noexcept {
  return wanted == Mode::colo ? Reason::start : Reason::stay;
}

struct Decision {
  Mode mode = Mode::periodic;  ///< of the epoch that begins now
  double due_s = 0;            ///< the next checkpoint is due when the VM has run for this long
  Reason reason = Reason::start;

  friend bool operator==(const Decision&, const Decision&) = default;
};

/// One number behind a decision, for people.
struct Figure {
  std::string_view name;  ///< with its unit, as in docs/controller.md
  double value = 0;
};

}  // namespace tandem::controller
