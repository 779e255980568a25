// A row of numbers as a row of bars, one character each.
#pragma once

#include <span>
#include <string>

namespace tandem::cli {

/// From 0 to the largest of the numbers; a blank for what is negative, as for what is not known.
/// Without `utf8`, in characters that every terminal has.
std::string sparkline(std::span<const double> values, bool utf8);

}  // namespace tandem::cli
