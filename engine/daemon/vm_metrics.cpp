#include "engine/daemon/vm_metrics.hpp"

#include <algorithm>
#include <set>

#include "engine/daemon/vm_unit.hpp"

namespace tandem::daemon {
namespace {

double number(std::uint64_t count) {
  return static_cast<double>(count);
}

void add(metrics::Totals& totals, const session::SessionCounters& counters,
         const session::InputCounters& input) {
  totals.dirty_bytes = number(counters.dirty_bytes);
  totals.wire_bytes = number(counters.wire_bytes);
  totals.input_mirrored_frames = number(input.mirrored_frames);
  totals.input_fed_frames = number(input.fed_frames);
  totals.input_stale_frames = number(input.stale_frames);
  totals.input_dropped_frames = number(input.dropped_frames);
}

double figure(const std::vector<controller::Figure>& figures, std::string_view name, double other) {
  const auto found = std::ranges::find(figures, name, &controller::Figure::name);
  return found == figures.end() ? other : found->value;
}

}  // namespace

metrics::Totals totals_of(const session::ChannelCounters& channel) {
  metrics::Totals totals;
  const auto& compare = channel.compare;
  totals.gate_captured_frames = number(channel.gate.captured_frames);
  totals.gate_released_frames = number(channel.gate.released_frames);
  totals.gate_dropped_frames = number(channel.gate.dropped_frames + channel.dropped_frames);
  totals.gate_drained_frames = number(channel.gate.drained_frames);
  totals.compare_released_frames = number(compare.released_frames);
  totals.compare_split_frames = number(compare.split_frames);
  totals.compare_committed_frames = number(compare.committed_frames);
  totals.compare_dropped_frames = number(compare.dropped_frames);
  totals.compare_secondary_frames = number(compare.secondary_frames);
  totals.compare_stale_frames = number(channel.stale_frames);
  totals.compare_equal_bytes = number(compare.compared_bytes);
  std::ranges::transform(compare.mismatches, totals.mismatches.begin(), number);
  return totals;
}

metrics::Totals totals_of(const session::PrimarySession& session) {
  metrics::Totals totals;
  const auto& machine = session.machine();
  const auto& decisions = session.pacer().log();
  add(totals, session.counters(), session.input());
  totals.checkpoints_begun = number(machine.last());
  totals.checkpoints_committed = number(machine.committed());
  totals.checkpoints_loaded = number(machine.loaded());
  totals.mismatch_checkpoints = number(session.mismatches().total());
  totals.mode_changes = number(decisions.mode_changes());
  std::ranges::transform(decisions.by_reason(), totals.decisions.begin(), number);
  return totals;
}

metrics::Totals totals_of(const session::SecondarySession& session) {
  metrics::Totals totals;
  const auto& machine = session.machine();
  add(totals, session.counters(), session.input());
  totals.checkpoints_committed = number(machine.committed());
  totals.checkpoints_loaded = number(machine.loaded());
  return totals;
}

metrics::Failover failover_of(const session::FailoverTimes& times,
                              std::chrono::system_clock::time_point ended) {
  using Seconds = std::chrono::duration<double>;
  return {Seconds(ended.time_since_epoch()).count(), Seconds(times.detection).count(),
          Seconds(times.decision).count(), Seconds(times.load).count(),
          Seconds(times.running).count()};
}

Task<metrics::VmSample> VmUnit::sample() {
  metrics::VmSample sample;
  sample.vm = name_;
  sample.role = to_string(role_);
  sample.state = process_ ? "running" : "stopped";
  sample.policy = to_string(policy_);
  sample.peer = peer_;
  sample.now.qemu_running = process_ ? 1 : 0;
  sample.now.generation = number(generation_);

  metrics::Totals open;
  std::set<session::NetChannel::Pointer> channels(translating_.begin(), translating_.end());
  const auto take = [&](const auto& session, std::uint64_t in_flight, bool is_protected) {
    open = totals_of(session);
    channels.insert(session.channels().begin(), session.channels().end());
    sample.state = to_string(session.machine().phase());
    sample.now.is_protected = is_protected ? 1 : 0;
    if (is_protected) sample.mode = to_string(session.machine().mode());
    sample.now.checkpoints_in_flight = number(in_flight);
    sample.now.checkpoint_largest_bytes = number(session.counters().checkpoint_bytes_largest);
  };
  if (primary_) {
    using Phase = session::PrimaryMachine::Phase;
    const auto& machine = primary_->machine();
    take(*primary_, machine.in_flight(), machine.phase() == Phase::protecting);
    if (machine.phase() == Phase::protecting) {
      const auto figures = primary_->pacer().controller().figures();
      sample.now.downtime_ratio = figure(figures, "downtime_ratio", 0);
      sample.now.checkpoints_per_second = figure(figures, "checkpoints_per_second", 0);
      const auto bound = figure(figures, "downtime_ratio_bound", -1);
      if (bound >= 0) sample.now.downtime_ratio_bound = bound;
    }
  } else if (secondary_) {
    using Phase = session::SecondaryMachine::Phase;
    const auto& machine = secondary_->machine();
    take(*secondary_, machine.committed() - machine.loaded(), machine.phase() == Phase::protecting);
  }
  for (const auto& channel : channels) {
    open += totals_of(channel->counters());
    sample.now.gate_held_frames += number(channel->gate().held_frames());
    sample.now.gate_held_bytes += number(channel->gate().held_bytes());
    sample.now.compare_waiting_frames += number(channel->comparer().waiting_frames());
    sample.now.compare_waiting_bytes += number(channel->comparer().waiting_bytes());
    sample.now.compare_flows += number(channel->comparer().flows());
    sample.now.translated_connections += number(channel->translator().size());
  }
  const auto spent = stop_clock_.spent(std::chrono::system_clock::now());
  open.running_seconds = spent.running.count();
  open.stopped_seconds = spent.stopped.count();
  sample.totals = book_->total(open);
  sample.failover = last_failover_;
  sample.pause = book_->pauses();
  sample.commit_latency = book_->commits();
  co_return sample;
}

}  // namespace tandem::daemon
