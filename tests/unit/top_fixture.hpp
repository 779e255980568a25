// Answers of a daemon with many VMs, for tests and measurements of `tandem top`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/control/json.hpp"
#include "tests/unit/control_fixture.hpp"

namespace tandem::cli::test {

/// A primary VM with a controller, as GET /v1/status answers it.
inline nlohmann::json top_vm(const std::string& name, std::uint64_t decisions = 40) {
  return {{"name", name},
          {"role", "primary"},
          {"state", "protected"},
          {"protected", true},
          {"generation", 1},
          {"peer", "beta"},
          {"policy", "hybrid"},
          {"mode", "colo"},
          {"controller",
           {{"state", "colo"},
            {"mode", "colo"},
            {"due_ms", 10000.0},
            {"reason", "stay"},
            {"decisions", decisions},
            {"mode_changes", 2},
            {"figures",
             {{"downtime_ratio", 0.0213},
              {"checkpoints_per_second", 2.5},
              {"colo_downtime_ratio", 0.02},
              {"downtime_ratio_bound", 0.1},
              {"b", 0.0},
              {"sigma", 1.0}}},
            {"parameters", control::to_json(controller::Parameters{})}}},
          {"qemu_pid", 4711},
          {"checkpoints", {{"last", 41}, {"committed", 40}, {"loaded", 39}, {"in_flight", 1}}},
          {"pause_ms", {{"count", 40}, {"mean", 5.14}, {"p50", 5.0}, {"p99", 9.0}, {"max", 9.9}}},
          {"stopped_ratio", 0.02},
          {"dirty_bytes", 1000000},
          {"wire_bytes", 2000000},
          {"checkpoint_bytes_largest", 100000},
          {"gate",
           {{"held_frames", 12},
            {"held_bytes", 17000},
            {"captured_frames", 9000},
            {"released_frames", 8988},
            {"dropped_frames", 0},
            {"drained_frames", 7}}},
          {"compare",
           {{"released_frames", 5000},
            {"mismatches", {{"payload", 3}, {"length", 0}, {"event", 0}, {"timeout", 4}}},
            {"mismatch_checkpoints", 7},
            {"mismatch_flows", nlohmann::json::array()}}},
          {"input", {{"mirrored_frames", 901}, {"fed_frames", 902}}},
          {"translations", 0},
          {"failover", nullptr},
          {"last_error", nullptr}};
}

/// As it arrives: what is not negative is unsigned.
inline nlohmann::json top_status(nlohmann::json vms) {
  const nlohmann::json status{
      {"host", "alpha"}, {"version", "0.1.0"}, {"worker_pid", 7}, {"vms", std::move(vms)}};
  return nlohmann::json::parse(status.dump());
}

/// A record of a cycle of one second that ended at `time`.
inline nlohmann::json top_record(std::uint64_t seq, double time, bool colo, double pause_s,
                                 double ratio, std::uint64_t bytes = 4096) {
  return {{"seq", seq},
          {"time", time},
          {"epoch", seq},
          {"observation",
           {{"time_s", time},
            {"mode", colo ? "colo" : "periodic"},
            {"pause_s", pause_s},
            {"uptime_s", 1 - pause_s},
            {"bytes", bytes},
            {"mismatches", 0}}},
          {"decision", {{"mode", "colo"}, {"due_s", 10.0}, {"reason", "stay"}}},
          {"figures", {{"downtime_ratio", ratio}, {"checkpoints_per_second", 1.0}}}};
}

inline nlohmann::json top_answer(nlohmann::json records) {
  const auto next = records.empty() ? nlohmann::json(0) : records.back()["seq"];
  const nlohmann::json answer{
      {"vm", "web"}, {"first", 1}, {"next", next}, {"records", std::move(records)}};
  return nlohmann::json::parse(answer.dump());
}

}  // namespace tandem::cli::test
