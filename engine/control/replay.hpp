// Decides again what a recording says was decided, with the product's own controller.
#pragma once

#include <array>
#include <cstdint>
#include <istream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "controller/controller.hpp"

namespace tandem::control {

/// A recording is a text of lines, each a JSON object: first {"tandem_recording": 1, "vm",
/// "start"}, then records as in GET /v1/vms/NAME/observations, with consecutive "seq".
class Replay {
 public:
  /// Instead of what was recorded: what another policy, or other parameters, would have said of the
  /// same observations. What it says does not change what is observed next, so it is no prediction.
  struct Otherwise {
    std::optional<controller::Policy> policy;
    nlohmann::json parameters = nlohmann::json::object();
  };

  struct Difference {
    std::uint64_t seq;
    controller::Decision recorded, replayed;
  };

  struct Summary {
    std::string vm;
    controller::Policy policy = controller::Policy::periodic;  ///< at the end
    std::uint64_t decisions = 0;
    std::uint64_t changes = 0;       ///< of policy or parameters, at run time
    std::uint64_t mode_changes = 0;  ///< as replayed
    std::uint64_t differences = 0;
    std::vector<Difference> first_differences;  ///< at most differences_kept
    double recorded_colo_s = 0, replayed_colo_s = 0, total_s = 0;
  };
  static constexpr std::size_t differences_kept = 20;
  static constexpr std::size_t line_max = 4u << 20;

  /// Errc::invalid_input names the line.
  static Result<Summary> run(std::istream& recording, const Otherwise& otherwise);
  static Result<Summary> run(std::istream& recording) { return run(recording, Otherwise{}); }
};

}  // namespace tandem::control
