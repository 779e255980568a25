#include "experiments/simulation/workload.hpp"

#include <cmath>
#include <numbers>

#include "experiments/simulation/random.hpp"

namespace tandem::simulation {
namespace {

// RUBiS. Five requests at once write less than fifty, but far from ten times less: each of the
// phases writes memory at four fifths, or six fifths, of the mean rate.
constexpr double step_s = 300;
constexpr double requests_light = 5, requests_heavy = 50;
constexpr double dirty_light = 0.8;
constexpr double replies_per_request = 4;  // a second

constexpr int creations_max = 16;
constexpr double dirty_without_creations = 0.5;  // of the mean rate

constexpr double drift_period_s = 900;
constexpr double drift_decades = 2;  // up and down

/// A stationary Ornstein-Uhlenbeck process of mean 0 and standard deviation 1, a value a second.
class Wander {
 public:
  Wander(double correlation_s, Random& random)
      : keep_(std::exp(-1 / correlation_s)), random_(random), value_(random.normal()) {}

  double next() {
    const auto value = value_;
    value_ = keep_ * value_ + std::sqrt(1 - keep_ * keep_) * random_.normal();
    return value;
  }

 private:
  double keep_;
  Random& random_;
  double value_;
};

}  // namespace

std::vector<Conditions> conditions(const Character& c, std::uint64_t seed, double seconds) {
  Random random(seed);
  Wander wander(c.wander_time_s, random);
  std::vector<Conditions> all(static_cast<std::size_t>(std::ceil(seconds)) + 1);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto time_s = static_cast<double>(i);
    auto& now = all[i];
    now = {c.dirty_mb_s, c.mismatches_per_s * std::exp(c.wander * wander.next()), 1, 100};
    switch (c.shape) {
      case Shape::steps: {
        const bool heavy = std::fmod(time_s, 2 * step_s) >= step_s;
        now.requests = heavy ? requests_heavy : requests_light;
        now.replies_per_s = replies_per_request * now.requests;
        now.dirty_mb_s *= heavy ? 2 - dirty_light : dirty_light;
        if (!heavy) now.mismatches_per_s = c.light_mismatches_per_s;
        break;
      }
      case Shape::creations: {
        now.requests = random.up_to(creations_max);
        now.replies_per_s = now.requests;
        const auto load = now.requests / (creations_max / 2.0);
        now.dirty_mb_s *= dirty_without_creations + (1 - dirty_without_creations) * load;
        now.mismatches_per_s *= load;
        break;
      }
      case Shape::switching:
        if (std::fmod(time_s, 2 * switching_phase_s) < switching_phase_s) now.mismatches_per_s = 0;
        break;
      case Shape::drift: {
        const auto phase = 2 * std::numbers::pi * time_s / drift_period_s;
        now.mismatches_per_s *= std::pow(10, drift_decades * std::sin(phase));
        break;
      }
      case Shape::steady:
        break;
    }
  }
  return all;
}

}  // namespace tandem::simulation
