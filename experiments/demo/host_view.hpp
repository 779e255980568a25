// What a host's daemon says about a VM, what the cables say, and the blow that a round strikes.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "experiments/demo/kill_plan.hpp"
#include "experiments/world/frame_witness.hpp"
#include "experiments/world/host.hpp"

namespace tandem::demo {

/// A host's view of a VM, as its daemon reports it.
struct HostView {
  bool answers = false;  ///< the daemon answered at all
  nlohmann::json vm = nlohmann::json::object();

  [[nodiscard]] std::string role() const;
  [[nodiscard]] std::string state() const;
  /// This host says that its VM serves clients.
  [[nodiscard]] bool serves() const;
  /// This host says that its VM, if it has one, stands still.
  [[nodiscard]] bool stands_still() const;
  /// For people.
  [[nodiscard]] std::string describe() const;
};

/// Asks the host's daemon about a VM; one that does not answer soon does not answer.
HostView look_at(world::Host& host, const std::string& vm);

/// What is hit, as it was known before.
struct Target {
  world::Host* primary = nullptr;
  world::Host* secondary = nullptr;
  pid_t qemu = 0, worker = 0;  ///< on the primary's host
};

/// The pids that a blow needs, from what the primary's host says now.
Result<Target> take_aim(world::Host& primary, world::Host& secondary, const std::string& vm);

/// Strikes, and says what it did.
Result<std::string> strike(const Target& target, KillKind kind, bool hang);

/// What the cables saw of a VM since the survivor's first frame: a line if the other host sent,
/// too. `primary_survives`: then the other one may not have sent at all.
std::vector<std::string> witness_problems(const world::FrameWitness::Sighting& survivor,
                                          const std::string& survivor_name,
                                          const world::FrameWitness::Sighting& other,
                                          const std::string& other_name, bool primary_survives);

}  // namespace tandem::demo
