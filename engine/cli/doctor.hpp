// `tandem doctor`: everything a user can get wrong, checked in one go, with what to do about it.
// Works with and without a running tandemd.
#pragma once

#include <filesystem>
#include <string>

#include "engine/cli/check.hpp"

namespace tandem::cli {

struct DoctorOptions {
  std::filesystem::path config;
  std::filesystem::path socket;  ///< where the other commands ask
  std::string peer;              ///< check this peer only; empty: all
};

Checks examine(const DoctorOptions& options);

}  // namespace tandem::cli
