// How an epoch is run.
#pragma once

#include <string_view>

namespace tandem::controller {

enum class Mode {
  periodic,  ///< the secondary VM stands still; output leaves with the next checkpoint
  colo       ///< both VMs run on the same input; output leaves as soon as both have produced it
};

constexpr std::string_view to_string(Mode mode) noexcept {
  return mode == Mode::colo ? "colo" : "periodic";
}

}  // namespace tandem::controller
