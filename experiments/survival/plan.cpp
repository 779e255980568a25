#include "experiments/survival/plan.hpp"

#include <algorithm>
#include <array>

#include "experiments/guests/peer_stream.h"

namespace tandem::survival {
namespace {

using std::chrono::microseconds;

constexpr std::array<std::pair<Kind, std::string_view>, 10> kNames{{
    {Kind::before, "before"},
    {Kind::after, "after"},
    {Kind::handshake, "handshake"},
    {Kind::guest, "guest"},
    {Kind::first, "first"},
    {Kind::bulk_up, "bulk-up"},
    {Kind::bulk_down, "bulk-down"},
    {Kind::random, "random"},
    {Kind::wrap, "wrap"},
    {Kind::sack, "sack"},
}};

constexpr int kHandshakes = 8;
constexpr std::uint64_t kHandshakeSpread = 40'000;  // microseconds, half of it before the kill
constexpr int kWraps = 4;
// An echo at 20 messages of 100 bytes a second has sent so much some seconds after the kill.
constexpr std::uint64_t kWrapBytesMax = 8'000;

class Random {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed) {}
  // The bias of the remainder is below 2^-40 for the small bounds that are used here.
  std::uint64_t below(std::uint64_t bound) noexcept {
    return peer_stream_word(seed_, index_++) % bound;
  }

 private:
  std::uint64_t seed_, index_ = 0;
};

}  // namespace

std::string_view to_string(Kind kind) noexcept {
  for (const auto& [known, name] : kNames)
    if (known == kind) return name;
  return "unknown";
}

std::optional<Kind> kind_from_string(std::string_view name) noexcept {
  for (const auto& [kind, known] : kNames)
    if (known == name) return kind;
  return std::nullopt;
}

const std::vector<Kind>& all_kinds() {
  static const auto kinds = [] {
    std::vector<Kind> list;
    for (const auto& [kind, name] : kNames) list.push_back(kind);
    return list;
  }();
  return kinds;
}

bool is_stream(Kind kind) noexcept {
  return kind == Kind::bulk_up || kind == Kind::bulk_down || kind == Kind::sack;
}

RoundPlan plan_round(std::uint64_t seed, std::optional<demo::KillKind> kill, Policy policy,
                     bool second_failover) {
  Random random(seed);
  RoundPlan plan;
  plan.seed = seed;
  plan.streams = seed / 2 % 2 == 0;  // host and QEMU each with and without
  // With a checkpoint every 250 ms most kills fall before the next one, some in it or behind it;
  // with one every 10 s both VMs run apart for a while.
  const std::uint64_t gap_max = policy == Policy::periodic ? 300'000 : 3'000'000;
  const int blows = second_failover ? 2 : 1;
  for (int i = 0; i < blows; ++i) {
    RoundPlan::Blow blow;
    const bool host = (seed + static_cast<std::uint64_t>(i)) % 2 == 0;
    blow.kind = kill.value_or(host ? demo::KillKind::primary_host : demo::KillKind::primary_qemu);
    blow.hang = random.below(2) == 1;
    blow.gap = microseconds(random.below(gap_max));
    plan.blows.push_back(blow);
  }
  for (int i = 0; i < kHandshakes; ++i) {
    const auto offset = static_cast<std::int64_t>(random.below(kHandshakeSpread)) -
                        static_cast<std::int64_t>(kHandshakeSpread / 2);
    plan.handshakes.push_back({microseconds(offset), i % 4 == 3});
  }
  for (int i = 0; i < kWraps; ++i)
    plan.wraps.push_back({static_cast<std::uint32_t>(1 + random.below(kWrapBytesMax)), i % 2 == 1});
  return plan;
}

}  // namespace tandem::survival
