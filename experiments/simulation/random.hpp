// Random numbers that are the same for the same seed, with any standard library.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>

namespace tandem::simulation {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// Above 0, below 1.
  double uniform() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53; }
  /// Mean 1.
  double exponential() { return -std::log(uniform()); }
  /// Mean 0, variance 1.
  double normal() {
    const auto radius = std::sqrt(2 * exponential());
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  /// 0 to `most`, each as likely.
  int up_to(int most) { return static_cast<int>(uniform() * (most + 1)); }

 private:
  // The standard says which numbers this engine makes; what its distributions make is left open.
  std::mt19937_64 engine_;
};

}  // namespace tandem::simulation
