// What Table I of "Hybrid Adaptive Checkpointing for Virtual Machine Fault Tolerance" (Souza et
// al., IC2E 2018) says.
#pragma once

namespace tandem::simulation {

struct PaperCell {
  double downtime = 0;  ///< share of time
  double checkpoint_ms = 0;
  double mb_per_s = 0;
};

struct PaperRow {
  PaperCell periodic, colo, threshold, hybrid;
};

inline constexpr PaperRow paper_rubis{
    {0.076, 118, 34}, {0.505, 823, 54.8}, {0.080, 131, 34.5}, {0.073, 122, 33.5}};
inline constexpr PaperRow paper_bugzilla{
    {0.391, 634, 312}, {0.421, 737, 251}, {0.402, 682, 281}, {0.371, 647, 289}};
inline constexpr PaperRow paper_video{
    {0.422, 636, 264}, {0.454, 749, 251}, {0.400, 615, 271}, {0.390, 581, 278}};

/// Its periodic checkpoints come after so long.
inline constexpr double paper_period_s = 0.25;
/// Its `threshold` leaves COLO mode below this.
inline constexpr double paper_threshold_s = 0.4;

}  // namespace tandem::simulation
