#include "engine/control/decision_log.hpp"

#include "engine/control/json.hpp"

namespace tandem::control {

using controller::Controller;

void DecisionLog::add(Time time, std::uint64_t epoch, const controller::Observation& observation,
                      const Controller& decided) {
  ++decisions_;
  ++by_reason_[static_cast<std::size_t>(decided.last().reason)];
  if (decided.last().mode != observation.mode) ++mode_changes_;
  push(time, Step{epoch, observation, decided.last(), decided.figures()});
}

void DecisionLog::add_change(Time time, controller::Policy policy,
                             const controller::Parameters& parameters) {
  push(time, Change{policy, parameters});
}

void DecisionLog::push(Time time, std::variant<Step, Change> what) {
  records_.push_back({++last_, time, std::move(what)});
  if (records_.size() <= capacity_) return;
  const auto& oldest = records_.front().what;
  if (const auto* step = std::get_if<Step>(&oldest)) {
    (void)start_.decide(step->observation);
  } else {
    const auto& change = std::get<Change>(oldest);
    start_.change(change.policy, change.parameters);
  }
  records_.pop_front();
}

nlohmann::json DecisionLog::to_json(std::uint64_t after, std::size_t limit) const {
  auto records = nlohmann::json::array();
  auto next = after;
  const auto first = records_.empty() ? last_ + 1 : records_.front().seq;
  // Records are numbered without gaps.
  for (auto at = std::max(after + 1, first); at <= last_ && records.size() < limit; ++at) {
    const auto& record = records_[at - first];
    const std::chrono::duration<double> time = record.time.time_since_epoch();
    nlohmann::json json{{"seq", record.seq}, {"time", time.count()}};
    if (const auto* step = std::get_if<Step>(&record.what)) {
      json["epoch"] = step->epoch;
      json["observation"] = control::to_json(step->observation);
      json["decision"] = control::to_json(step->decision);
      json["figures"] = control::to_json(step->figures);
    } else {
      const auto& change = std::get<Change>(record.what);
      json["change"] = {{"policy", to_string(change.policy)},
                        {"parameters", control::to_json(change.parameters)}};
    }
    next = record.seq;
    records.push_back(std::move(json));
  }
  nlohmann::json json{{"first", first}, {"next", next}, {"records", std::move(records)}};
  if (after == 0) json["start"] = control::to_json(start_);
  return json;
}

}  // namespace tandem::control
