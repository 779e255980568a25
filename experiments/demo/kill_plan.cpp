#include "experiments/demo/kill_plan.hpp"

#include <array>
#include <utility>

namespace tandem::demo {
namespace {

constexpr std::array kKinds{KillKind::primary_qemu, KillKind::primary_host,
                            KillKind::secondary_host, KillKind::primary_daemon};

// SplitMix64 (Steele, Lea, Flood 2014). The distributions of the standard library differ between
// implementations; this one and the integer arithmetic on it do not.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }
  // The bias of the remainder is below 2^-40 for the small bounds that are used here.
  std::uint64_t below(std::uint64_t bound) noexcept { return next() % bound; }

 private:
  std::uint64_t state_;
};

}  // namespace

std::string_view to_string(KillKind kind) noexcept {
  switch (kind) {
    case KillKind::primary_qemu:
      return "primary-qemu";
    case KillKind::primary_host:
      return "primary-host";
    case KillKind::secondary_host:
      return "secondary-host";
    case KillKind::primary_daemon:
      return "primary-daemon";
  }
  return "unknown";
}

std::optional<KillKind> kill_kind_from_string(std::string_view name) noexcept {
  for (const KillKind kind : kKinds)
    if (to_string(kind) == name) return kind;
  return std::nullopt;
}

RoundPlan plan_round(std::uint64_t seed, KillKind kind) {
  Random random(seed);
  RoundPlan plan;
  plan.seed = seed;
  plan.kind = kind;
  plan.delay = std::chrono::microseconds(2'000'000 + random.below(3'000'000));
  plan.hang = random.below(2) == 1;
  return plan;
}

std::vector<RoundPlan> plan_rounds(std::uint64_t seed, std::size_t rounds,
                                   std::optional<KillKind> kind) {
  std::vector<RoundPlan> plans;
  Random order(~seed);
  auto kinds = kKinds;
  for (std::size_t round = 0; round < rounds; ++round) {
    const std::size_t place = round % kinds.size();
    if (place == 0)
      for (std::size_t left = kinds.size(); left > 1; --left)
        std::swap(kinds[left - 1], kinds[static_cast<std::size_t>(order.below(left))]);
    plans.push_back(plan_round(seed + round, kind.value_or(kinds[place])));
  }
  return plans;
}

}  // namespace tandem::demo
