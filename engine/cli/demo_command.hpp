// `tandem demo`: the program tandem-demo, which is not part of every installation.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace tandem::cli {

/// Where tandem-demo is: beside this program, else in the installation's libexec folder for it.
Result<std::filesystem::path> find_demo();

/// Becomes tandem-demo with these arguments; returns only if that is not possible.
Error run_demo(const std::vector<std::string>& arguments);

}  // namespace tandem::cli
