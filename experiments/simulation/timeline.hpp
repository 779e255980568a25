// One run over time, as in the paper's Figure 6: mode, bandwidth and downtime ratio.
#pragma once

#include <string>
#include <vector>

#include "experiments/simulation/study.hpp"

namespace tandem::simulation {

/// At a second of the run.
struct Moment {
  double time_s = 0;
  bool colo = false;          ///< some of the second before was in COLO mode
  double mb_per_s = 0;        ///< over the policy's window, as is the next
  double downtime_ratio = 0;  ///< average pause over average uptime
  double bound = -1;          ///< `hybrid`: of the downtime ratio in COLO mode; negative: none
};

std::vector<Moment> timeline(const Scenario& scenario, controller::Policy policy,
                             const Setting& setting, std::uint64_t seed);

std::string timeline_csv(const std::vector<Moment>& moments);
/// Draws `csv` into `svg`; both lie in the folder that gnuplot is run in.
std::string gnuplot_script(const std::string& title, const std::string& csv, const std::string& svg,
                           bool bound);

}  // namespace tandem::simulation
