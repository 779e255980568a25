// A protected pair as a sequence of events: epochs, checkpoints, the link, and the secondary that
// loads. Decisions are made by the product's own controller.
#pragma once

#include <cstdint>
#include <functional>

#include "controller/controller.hpp"
#include "experiments/simulation/workload.hpp"

namespace tandem::simulation {

/// What a checkpoint costs.
///
/// One that a periodic epoch begins with: the VM stands still while what it has written is copied.
/// Then the copy crosses the link and is loaded while the VM runs. Each of the three takes one
/// checkpoint at a time.
struct Costs {
  double copy_fixed_s = 0;
  double copy_mb_s = 1;
  double link_mb_s = 1;
  double load_s = 0;
  /// With more checkpoints on their way, the VM waits.
  std::size_t in_flight_max = 2;
  /// A checkpoint that a COLO epoch begins with goes to the secondary without a copy, and the VM
  /// stands still until it is loaded. Else it is as any other.
  bool colo_waits = true;
  /// Between two COLO epochs, what both VMs have under way is sent and loaded anew; `always`: also
  /// where a periodic epoch follows.
  double diverged_mb_per_request = 0;
  double diverged_s_per_request = 0;
  bool diverged_always = false;
};

struct Workload {
  Character character;
  Costs costs;
};

/// One checkpoint, and the epoch that it ended.
struct Checkpoint {
  controller::Mode ended = controller::Mode::periodic, begins = controller::Mode::periodic;
  double time_s = 0;    ///< when it began
  double uptime_s = 0;  ///< of the epoch
  bool mismatch = false;
  double mb = 0;
  double pause_s = 0;
  double whole_s = 0;  ///< until the secondary has loaded it
};

struct Totals {
  double time_s = 0, down_s = 0, colo_s = 0;
  double checkpoints = 0, mismatches = 0, mode_changes = 0;
  double whole_s = 0, mb = 0;
  double replies = 0, reply_wait_s = 0;

  [[nodiscard]] double downtime() const { return down_s / time_s; }
  [[nodiscard]] double checkpoint_ms() const { return 1e3 * whole_s / checkpoints; }
  [[nodiscard]] double mb_per_s() const { return mb / time_s; }
  [[nodiscard]] double colo_share() const { return colo_s / time_s; }
  /// From the moment in which the VM sends a reply until it may leave, on average.
  [[nodiscard]] double output_wait_ms() const {
    return replies > 0 ? 1e3 * reply_wait_s / replies : 0;
  }
};

/// Called with each checkpoint, after the decision that goes with it.
using Watch = std::function<void(const Checkpoint&, const controller::Controller&)>;

/// The same arguments give the same run.
Totals run(const Workload& workload, std::uint64_t seed, double seconds,
           controller::Controller controller, const Watch& watch = {});

}  // namespace tandem::simulation
