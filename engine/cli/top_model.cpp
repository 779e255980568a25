#include "engine/cli/top_model.hpp"

#include <algorithm>
#include <cmath>

#include "engine/cli/connection.hpp"
#include "engine/cli/format.hpp"

namespace tandem::cli {
namespace {

using nlohmann::json;

/// Rates are over this time, since in colo mode seconds pass between two checkpoints.
constexpr double rate_seconds = 12;
/// More than this is not asked for when a VM comes into view: three minutes of four a second.
constexpr std::uint64_t backlog_max = 720;
/// An answer with as many records may not be the last.
constexpr std::size_t full_answer = 100;

const json& member(const json& object, const char* key) {
  static const json none;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() ? *found : none;
}

std::string text(const json& value) {
  return value.is_string() ? printable(value.get_ref<const std::string&>()) : std::string();
}

std::optional<double> number(const json& value) {
  if (!value.is_number()) return std::nullopt;
  return value.get<double>();
}

std::optional<std::uint64_t> count(const json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  return value.get<std::uint64_t>();
}

}  // namespace

void TopModel::look(const json& status, double now) {
  problem_.clear();
  host_ = text(member(status, "host"));
  const auto worker = number_at(status, "worker_pid", 0);
  if (worker != std::exchange(worker_, worker)) {
    // Another worker numbers from the beginning.
    for (auto& [name, known] : vms_) known.after.reset();
  }
  const auto& list = member(status, "vms");
  std::vector<std::string> present;
  if (list.is_array()) {
    for (const auto& vm : list) {
      const auto name = text(member(vm, "name"));
      if (name.empty() || (!only_.empty() && std::ranges::find(only_, name) == only_.end())) {
        continue;
      }
      present.push_back(name);
      look_at(vm, now);
    }
  }
  std::erase_if(vms_, [&](const auto& entry) {
    return std::ranges::find(present, entry.first) == present.end();
  });
}

void TopModel::look_at(const json& vm, double now) {
  auto& known = vms_[text(member(vm, "name"))];
  auto& shown = known.vm;
  const auto generation = number_at(vm, "generation", 0);
  if (generation != std::exchange(known.generation, generation)) {
    known.after.reset();
    known.looks.clear();
    shown.pause_last_ms.reset();
  }
  shown.name = text(member(vm, "name"));
  shown.role = text(member(vm, "role"));
  shown.state = text(member(vm, "state"));
  shown.last_error = text(member(vm, "last_error"));
  shown.peer = text(member(vm, "peer"));
  shown.mode = text(member(vm, "mode"));
  shown.is_protected = member(vm, "protected") == true;
  const bool in_pair = shown.role == "primary" || shown.role == "secondary";
  shown.policy = in_pair ? text(member(vm, "policy")) : "";

  const auto& controller = member(vm, "controller");
  const auto& figures = member(controller, "figures");
  shown.downtime_ratio = number(member(figures, "downtime_ratio"));
  shown.downtime_ratio_bound = number(member(figures, "downtime_ratio_bound"));
  known.decisions = number_at(controller, "decisions", 0);

  const bool is_primary = shown.role == "primary";
  const auto& pauses = member(vm, "pause_ms");
  const bool paused = is_primary && number_at(pauses, "count", 0) > 0;
  shown.pause_mean_ms = paused ? number(member(pauses, "mean")) : std::nullopt;
  if (!is_primary) shown.pause_last_ms.reset();

  const auto& compare = member(vm, "compare");
  const auto& gate = member(vm, "gate");
  shown.mismatches = is_primary ? count(member(compare, "mismatch_checkpoints")) : std::nullopt;
  shown.held_frames = is_primary ? count(member(gate, "held_frames")) : std::nullopt;
  shown.held_bytes = is_primary ? count(member(gate, "held_bytes")) : std::nullopt;
  measure_rates(known, vm, now);
}

void TopModel::measure_rates(Known& known, const json& vm, double now) {
  auto& looks = known.looks;
  const Look look{now, number_at(vm, "dirty_bytes", 0), number_at(vm, "wire_bytes", 0)};
  const bool in_pair = !known.vm.policy.empty();
  const bool counts_anew = !looks.empty() && (look.dirty_bytes < looks.back().dirty_bytes ||
                                              look.wire_bytes < looks.back().wire_bytes ||
                                              look.time <= looks.back().time);
  if (!in_pair || counts_anew) looks.clear();
  if (in_pair) looks.push_back(look);
  while (looks.size() > 2 && looks[1].time <= now - rate_seconds) looks.pop_front();
  known.vm.dirty_bytes_per_s.reset();
  known.vm.wire_bytes_per_s.reset();
  if (looks.size() < 2) return;
  const auto& oldest = looks.front();
  const auto rate = [&](std::uint64_t Look::*bytes) {
    return static_cast<double>(look.*bytes - oldest.*bytes) / (look.time - oldest.time);
  };
  known.vm.dirty_bytes_per_s = rate(&Look::dirty_bytes);
  known.vm.wire_bytes_per_s = rate(&Look::wire_bytes);
}

std::vector<TopModel::Question> TopModel::questions(const std::vector<std::string>* visible) const {
  std::vector<Question> questions;
  std::vector<const Known*> updates;
  for (const auto& [name, known] : vms_) {
    if (visible != nullptr && std::ranges::find(*visible, name) == visible->end()) continue;
    if (known.decisions == 0) continue;
    if (!known.after) {
      // Changes at run time have numbers, too: there is never less to get than is asked for here.
      questions.push_back({name, known.decisions - std::min(known.decisions, backlog_max)});
    } else if (known.decisions != known.decisions_known) {
      updates.push_back(&known);
    }
  }
  std::ranges::stable_sort(updates, {}, &Known::taken);
  if (visible != nullptr && updates.size() > updates_max) updates.resize(updates_max);
  for (const auto* known : updates) questions.push_back({known->vm.name, *known->after});
  return questions;
}

bool TopModel::take(const Question& question, const json& answer) {
  const auto found = vms_.find(question.vm);
  if (found == vms_.end()) return false;
  auto& known = found->second;
  known.after = number_at(answer, "next", question.after);
  known.decisions_known = known.decisions;
  known.taken = ++answers_;
  const auto& records = member(answer, "records");
  if (!records.is_array()) return false;
  for (const auto& record : records) {
    const auto& observation = member(record, "observation");
    const auto time = number(member(record, "time"));
    const auto pause_s = number(member(observation, "pause_s"));
    const auto uptime_s = number(member(observation, "uptime_s"));
    if (!time || !pause_s || !uptime_s) continue;  // a change at run time
    const auto& mode = member(observation, "mode");
    known.vm.history.add(
        {.time = *time,
         .pause_s = *pause_s,
         .uptime_s = *uptime_s,
         .bytes = number(member(observation, "bytes")).value_or(0),
         .downtime_ratio = number(member(member(record, "figures"), "downtime_ratio")).value_or(0),
         .colo = mode == "colo"});
    known.vm.pause_last_ms = *pause_s * 1e3;
  }
  return records.size() >= full_answer && known.after != question.after;
}

std::vector<const TopVm*> TopModel::vms() const {
  std::vector<const TopVm*> vms;
  vms.reserve(vms_.size());
  for (const auto& [name, known] : vms_) vms.push_back(&known.vm);
  return vms;
}

std::string TopModel::missing() const {
  for (const auto& name : only_) {
    if (!vms_.contains(name)) return name;
  }
  return {};
}

}  // namespace tandem::cli
