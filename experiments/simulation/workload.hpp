// What a guest does to its pair, second by second: how fast it writes memory, and how often the two
// VMs' outputs differ. It does not depend on what a policy decides, so that all policies meet the
// same guest.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::simulation {

/// Of one second.
struct Conditions {
  double dirty_mb_s = 0;        ///< written for the first time in an epoch, at its beginning
  double mismatches_per_s = 0;  ///< how often outputs differ while both VMs run
  double requests = 0;          ///< under way at once
  double replies_per_s = 0;
};

/// How a workload changes.
enum class Shape {
  steps,      ///< RUBiS: 5 requests at once for 5 minutes, then 50, and so on
  creations,  ///< BugZilla: 0 to 16 creations a second, drawn for each second
  switching,  ///< known replies for 40 s, random ones for 40 s
  drift,      ///< mismatches grow more and more frequent and become rare again, in 15 minutes
  steady,     ///< nothing changes, or mismatches only wander (video)
};

struct Character {
  Shape shape = Shape::steady;
  double dirty_mb_s = 0;        ///< on average
  double working_set_mb = 0;    ///< no epoch writes more
  double mismatches_per_s = 0;  ///< what the rate wanders around; `steps`: at 50 requests
  /// The logarithm of the rate of mismatches wanders: an Ornstein-Uhlenbeck process with this
  /// standard deviation and correlation time.
  double wander = 0;
  double wander_time_s = 1;
  /// The VMs send the same for so long after a checkpoint; drawn for each epoch.
  double alike_min_s = 0, alike_max_s = 0;
  /// Work comes by the clock: what comes while the VM stands still is done when it runs again.
  /// Else the guest does nothing for that while it stands still.
  bool by_the_clock = false;
  /// `steps`: mismatches a second at 5 requests.
  double light_mismatches_per_s = 0.05;
};

/// One for each second, and one more.
std::vector<Conditions> conditions(const Character& character, std::uint64_t seed, double seconds);

constexpr double switching_phase_s = 40;

}  // namespace tandem::simulation
