// What a VM's unit tells: its status, and what its session traces and decides.
#include "engine/daemon/vm_status.hpp"
#include "engine/daemon/vm_unit.hpp"

namespace tandem::daemon {
namespace {

using namespace std::chrono_literals;
using std::chrono::system_clock;

constexpr auto trace_poll = 50ms;
constexpr auto observations_poll = 50ms;
constexpr std::size_t observations_max = 500;  // an answer's size stays below a megabyte

}  // namespace

Task<Result<nlohmann::json>> VmUnit::trace(std::uint64_t after, std::chrono::milliseconds wait) {
  const auto deadline = std::chrono::steady_clock::now() + wait;
  for (;;) {
    if (!primary_) {
      co_return Error{Errc::conflict,
                      name_ + " cannot be traced: this host is not its pair's primary"};
    }
    auto json = primary_->read_trace(after);
    if (!json["records"].empty() || std::chrono::steady_clock::now() >= deadline) {
      co_return Result<nlohmann::json>(boost::system::in_place_value, std::move(json));
    }
    co_await session::wait_for(trace_poll);
  }
}

Task<Result<nlohmann::json>> VmUnit::observations(std::uint64_t after,
                                                  std::chrono::milliseconds wait) {
  const auto deadline = std::chrono::steady_clock::now() + wait;
  while (primary_ && primary_->pacer().log().last() <= after &&
         std::chrono::steady_clock::now() < deadline) {
    co_await session::wait_for(observations_poll);
  }
  if (!primary_) {
    co_return Error{Errc::conflict,
                    name_ + " has no controller: this host is not its pair's primary"};
  }
  auto json = primary_->pacer().log().to_json(after, observations_max);
  json["vm"] = name_;
  co_return Result<nlohmann::json>(boost::system::in_place_value, std::move(json));
}

Task<nlohmann::json> VmUnit::status() {
  const auto now = system_clock::now();
  std::string state = process_ ? "running" : "stopped";
  bool is_protected = false;
  nlohmann::json checkpoints{{"last", 0}, {"committed", 0}, {"loaded", 0}, {"in_flight", 0}};
  session::SessionCounters counters;
  const auto* channels = &translating_;
  nlohmann::json mode;
  nlohmann::json controller;
  session::InputCounters input;
  const session::MismatchLog no_mismatches;
  const auto* mismatches = &no_mismatches;
  if (primary_) {
    const auto& machine = primary_->machine();
    state = to_string(machine.phase());
    is_protected = machine.phase() == session::PrimaryMachine::Phase::protecting;
    checkpoints = {{"last", machine.last()},
                   {"committed", machine.committed()},
                   {"loaded", machine.loaded()},
                   {"in_flight", machine.in_flight()}};
    counters = primary_->counters();
    channels = &primary_->channels();
    if (is_protected) {
      mode = to_string(machine.mode());
      controller = to_json(primary_->pacer());
    }
    input = primary_->input();
    mismatches = &primary_->mismatches();
  } else if (secondary_) {
    const auto& machine = secondary_->machine();
    state = to_string(machine.phase());
    is_protected = machine.phase() == session::SecondaryMachine::Phase::protecting;
    checkpoints = {{"last", machine.committed()},
                   {"committed", machine.committed()},
                   {"loaded", machine.loaded()},
                   {"in_flight", machine.committed() - machine.loaded()}};
    counters = secondary_->counters();
    channels = &secondary_->channels();
    if (is_protected) mode = to_string(machine.mode());
    input = secondary_->input();
  }
  std::size_t translations = 0;
  proxy::GateCounters frames;
  std::size_t held_frames = 0;
  std::size_t held_bytes = 0;
  for (const auto& channel : *channels) {
    const auto& gate = channel->gate();
    translations += channel->translator().size();
    frames.dropped_frames += channel->dropped_frames();
    held_frames += gate.held_frames();
    held_bytes += gate.held_bytes();
    frames.captured_frames += gate.counters().captured_frames;
    frames.released_frames += gate.counters().released_frames;
    frames.dropped_frames += gate.counters().dropped_frames;
    frames.drained_frames += gate.counters().drained_frames;
  }
  co_return nlohmann::json{
      {"name", name_},
      {"role", to_string(role_)},
      {"state", state},
      {"protected", is_protected},
      {"generation", generation_},
      {"peer", peer_.empty() ? nlohmann::json() : nlohmann::json(peer_)},
      {"policy", to_string(policy_)},
      {"mode", mode},
      {"controller", controller},
      {"qemu_pid", process_ ? nlohmann::json(process_->process.pid) : nlohmann::json()},
      {"checkpoints", checkpoints},
      {"pause_ms", stop_clock_.to_json()},
      {"stopped_ratio", stop_clock_.stopped_ratio(now)},
      {"dirty_bytes", counters.dirty_bytes},
      {"wire_bytes", counters.wire_bytes},
      {"checkpoint_bytes_largest", counters.checkpoint_bytes_largest},
      {"gate",
       {{"held_frames", held_frames},
        {"held_bytes", held_bytes},
        {"captured_frames", frames.captured_frames},
        {"released_frames", frames.released_frames},
        {"dropped_frames", frames.dropped_frames},
        {"drained_frames", frames.drained_frames}}},
      {"compare", comparison(*channels, *mismatches)},
      {"input", to_json(input)},
      {"translations", translations},
      {"failover", failover_},
      {"last_error", last_error_.empty() ? nlohmann::json() : nlohmann::json(last_error_)},
  };
}

}  // namespace tandem::daemon
