#include "engine/cli/sparkline.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace tandem::cli {
namespace {

constexpr std::array<const char*, 8> bars{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::array<const char*, 8> plain_bars{"_", ".", "-", ":", "=", "+", "*", "#"};

}  // namespace

std::string sparkline(std::span<const double> values, bool utf8) {
  double largest = 0;
  for (const auto value : values) {
    if (std::isfinite(value)) largest = std::max(largest, value);
  }
  std::string text;
  for (const auto value : values) {
    if (!(value >= 0)) {
      text += ' ';
      continue;
    }
    const auto share = largest > 0 ? std::min(value / largest, 1.0) : 0;
    const auto level = static_cast<std::size_t>(std::lround(share * (bars.size() - 1)));
    text += (utf8 ? bars : plain_bars)[level];
  }
  return text;
}

}  // namespace tandem::cli
