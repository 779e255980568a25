#include "engine/daemon/vm_status.hpp"

#include <chrono>

#include "engine/control/json.hpp"

namespace tandem::daemon {
namespace {

nlohmann::json to_json(const session::MismatchLog& log) {
  auto flows = nlohmann::json::array();
  for (const auto& entry : log.entries()) {
    const std::chrono::duration<double> time = entry.time.time_since_epoch();
    const bool has_flow = !(entry.flow == proxy::FlowKey{});
    flows.push_back({{"flow", has_flow ? to_string(entry.flow) : ""},
                     {"count", entry.count},
                     {"reason", to_string(entry.reason)},
                     {"detail", entry.detail},
                     {"time", time.count()}});
  }
  return flows;
}

}  // namespace

nlohmann::json to_json(const session::FailoverTimes& times) {
  const auto total = times.detection + times.decision + times.load + times.running;
  return {{"reason", times.reason},
          {"detection_ms", times.detection.count()},
          {"decision_ms", times.decision.count()},
          {"load_ms", times.load.count()},
          {"running_ms", times.running.count()},
          {"total_ms", total.count()},
          {"checkpoint", times.checkpoint}};
}

nlohmann::json to_json(const session::InputCounters& input) {
  return {{"mirrored_frames", input.mirrored_frames},
          {"fed_frames", input.fed_frames},
          {"stale_frames", input.stale_frames},
          {"dropped_frames", input.dropped_frames}};
}

nlohmann::json to_json(const session::Pacer& pacer) {
  const auto& controller = pacer.controller();
  return {{"state", controller.state_name()},
          {"mode", to_string(controller.last().mode)},
          {"due_ms", controller.last().due_s * 1e3},
          {"reason", to_string(controller.last().reason)},
          {"decisions", pacer.log().decisions()},
          {"mode_changes", pacer.log().mode_changes()},
          {"figures", control::to_json(controller.figures())},
          {"parameters", control::to_json(controller.parameters())}};
}

nlohmann::json comparison(const std::vector<session::NetChannel::Pointer>& channels,
                          const session::MismatchLog& log) {
  proxy::CompareCounters sum;
  std::size_t waiting_frames = 0;
  std::size_t waiting_bytes = 0;
  std::size_t flows = 0;
  std::uint64_t stale_frames = 0;
  for (const auto& channel : channels) {
    const auto& comparer = channel->comparer();
    const auto& counters = comparer.counters();
    sum.released_frames += counters.released_frames;
    sum.split_frames += counters.split_frames;
    sum.committed_frames += counters.committed_frames;
    sum.dropped_frames += counters.dropped_frames;
    sum.secondary_frames += counters.secondary_frames;
    sum.compared_bytes += counters.compared_bytes;
    stale_frames += channel->stale_frames();
    for (std::size_t i = 0; i < proxy::reason_count; ++i) {
      sum.mismatches[i] += counters.mismatches[i];
    }
    waiting_frames += comparer.waiting_frames();
    waiting_bytes += comparer.waiting_bytes();
    flows += comparer.flows();
  }
  auto mismatches = nlohmann::json::object();
  for (std::size_t i = 0; i < proxy::reason_count; ++i) {
    mismatches[std::string(to_string(static_cast<proxy::Reason>(i)))] = sum.mismatches[i];
  }
  return {{"released_frames", sum.released_frames},
          {"split_frames", sum.split_frames},
          {"committed_frames", sum.committed_frames},
          {"dropped_frames", sum.dropped_frames},
          {"secondary_frames", sum.secondary_frames},
          {"stale_frames", stale_frames},
          {"compared_bytes", sum.compared_bytes},
          {"waiting_frames", waiting_frames},
          {"waiting_bytes", waiting_bytes},
          {"flows", flows},
          {"mismatches", std::move(mismatches)},
          {"mismatch_checkpoints", log.total()},
          {"mismatch_flows", to_json(log)}};
}

}  // namespace tandem::daemon
