#include "experiments/bench/policies_bench_schedule.hpp"

#include <cmath>

namespace tandem::bench {

std::string_view to_string(Replies replies) noexcept {
  return replies == Replies::random ? "random" : "deterministic";
}

std::vector<Span> Schedule::spans() const {
  std::vector<Span> spans;
  spans.reserve(2 * static_cast<std::size_t>(cycles));
  for (int i = 0; i < 2 * cycles; ++i)
    spans.push_back(
        {i % 2 == 0 ? Replies::random : Replies::deterministic, i * phase_s, (i + 1) * phase_s});
  return spans;
}

Replies Schedule::replies_at(double at_s) const noexcept {
  if (at_s < 0 || at_s >= counted_s()) return Replies::deterministic;
  return std::fmod(at_s, 2 * phase_s) < phase_s ? Replies::random : Replies::deterministic;
}

}  // namespace tandem::bench
