#include "experiments/simulation/pair_model.hpp"

#include <algorithm>
#include <cmath>
#include <deque>

#include "experiments/simulation/random.hpp"

namespace tandem::simulation {
namespace {

using controller::Mode;

// Mismatches are drawn from numbers of their own, so that the conditions are the same for all.
constexpr std::uint64_t mismatch_stream = 0x9e3779b97f4a7c15;

class Guest {
 public:
  Guest(const Character& character, std::uint64_t seed, double seconds)
      : character_(character),
        conditions_(conditions(character, seed, seconds)),
        random_(seed ^ mismatch_stream) {}

  [[nodiscard]] const Conditions& at(double time_s) const {
    return conditions_[std::min(static_cast<std::size_t>(time_s), conditions_.size() - 1)];
  }

  struct Epoch {
    double uptime_s = 0, mb = 0;
    double replies = 0, reply_age_s = 0;  ///< at the end of the epoch; the sum of all
    bool mismatch = false;
  };
  /// From `time_s` on, second by second, until the checkpoint is due or outputs differ.
  Epoch run(double time_s, double pause_s, Mode mode, double due_s) {
    Epoch epoch;
    double alike_s = due_s, patience = 0;
    if (mode == Mode::colo) {
      const auto& [min_s, max_s] = std::pair(character_.alike_min_s, character_.alike_max_s);
      alike_s = min_s + (max_s - min_s) * random_.uniform();
      patience = random_.exponential();
    }
    double written_mb = character_.by_the_clock ? at(time_s).dirty_mb_s * pause_s : 0;
    while (epoch.uptime_s < due_s && !epoch.mismatch) {
      const auto now_s = time_s + epoch.uptime_s;
      const auto& now = at(now_s);
      auto run_s = std::min(std::floor(now_s) + 1 - now_s, due_s - epoch.uptime_s);
      const bool alike = epoch.uptime_s < alike_s;
      if (alike) run_s = std::min(run_s, alike_s - epoch.uptime_s);
      run_s = std::max(run_s, 1e-9);  // rounding must not stop the clock
      if (!alike) {
        if (now.mismatches_per_s * run_s >= patience) {
          run_s = patience / now.mismatches_per_s;
          epoch.mismatch = true;
        }
        patience -= now.mismatches_per_s * run_s;
      }
      written_mb += now.dirty_mb_s * run_s;
      const auto replies = now.replies_per_s * run_s;
      epoch.reply_age_s += (epoch.replies + replies / 2) * run_s;
      epoch.replies += replies;
      epoch.uptime_s += run_s;
    }
    epoch.mb = character_.working_set_mb * -std::expm1(-written_mb / character_.working_set_mb);
    return epoch;
  }

 private:
  const Character& character_;
  std::vector<Conditions> conditions_;
  Random random_;
};

/// The way of checkpoints to the secondary.
class Pipeline {
 public:
  explicit Pipeline(const Costs& costs) : costs_(costs) {}

  struct Times {
    double pause_s = 0, whole_s = 0;
  };
  Times checkpoint(double time_s, double mb, double diverged_s, Mode begins) {
    const bool waits = begins == Mode::colo && costs_.colo_waits;
    const auto copied_s = time_s + (waits ? 0 : costs_.copy_fixed_s + mb / costs_.copy_mb_s);
    link_free_s_ = std::max(copied_s, link_free_s_) + mb / costs_.link_mb_s;
    secondary_free_s_ = std::max(link_free_s_, secondary_free_s_) + costs_.load_s + diverged_s;
    auto resumes_s = waits ? secondary_free_s_ : copied_s;
    loaded_s_.push_back(secondary_free_s_);
    if (loaded_s_.size() > costs_.in_flight_max) {
      resumes_s = std::max(resumes_s, loaded_s_.front());
      loaded_s_.pop_front();
    }
    return {resumes_s - time_s, secondary_free_s_ - time_s};
  }

 private:
  const Costs& costs_;
  double link_free_s_ = 0, secondary_free_s_ = 0;
  std::deque<double> loaded_s_;  ///< when the latest checkpoints are
};

}  // namespace

Totals run(const Workload& workload, std::uint64_t seed, double seconds,
           controller::Controller controller, const Watch& watch) {
  const auto& costs = workload.costs;
  Guest guest(workload.character, seed, seconds);
  Pipeline pipeline(costs);
  Totals totals;
  controller::Observation cycle;
  auto decision = controller.last();
  auto& time_s = totals.time_s;
  while (time_s < seconds) {
    const auto mode = decision.mode;
    const auto epoch = guest.run(time_s, cycle.pause_s, mode, decision.due_s);
    time_s += epoch.uptime_s;
    cycle.time_s = time_s;
    cycle.mode = mode;
    cycle.uptime_s = epoch.uptime_s;
    cycle.mismatches = epoch.mismatch ? 1 : 0;
    decision = controller.decide(cycle);

    const bool again = mode == Mode::colo && (decision.mode == Mode::colo || costs.diverged_always);
    const auto diverged = again ? guest.at(time_s).requests : 0;
    const auto mb = epoch.mb + diverged * costs.diverged_mb_per_request;
    const auto [pause_s, whole_s] =
        pipeline.checkpoint(time_s, mb, diverged * costs.diverged_s_per_request, decision.mode);

    totals.checkpoints += 1;
    totals.mismatches += epoch.mismatch ? 1 : 0;
    totals.mode_changes += decision.mode == mode ? 0 : 1;
    totals.colo_s += mode == Mode::colo ? cycle.pause_s + epoch.uptime_s : 0;
    totals.down_s += pause_s;
    totals.whole_s += whole_s;
    totals.mb += mb;
    totals.replies += epoch.replies;
    if (mode == Mode::periodic) {
      totals.reply_wait_s += epoch.reply_age_s + epoch.replies * whole_s;
    } else if (epoch.mismatch) {
      // The reply that differs; all before it have left when both VMs had sent them.
      totals.reply_wait_s += std::min(epoch.replies, 1.0) * whole_s;
    }
    if (watch) {
      watch({mode, decision.mode, time_s, epoch.uptime_s, epoch.mismatch, mb, pause_s, whole_s},
            controller);
    }
    time_s += pause_s;
    cycle.pause_s = pause_s;
    cycle.bytes = static_cast<std::uint64_t>(mb * 1e6);
  }
  return totals;
}

}  // namespace tandem::simulation
