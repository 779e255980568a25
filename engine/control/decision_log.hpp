// The latest decisions about a pair, with what they were made from, and the controller as it was
// before the oldest of them: enough to make them all again.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <variant>
#include <vector>

#include "controller/controller.hpp"

namespace tandem::control {

class DecisionLog {
 public:
  using Time = std::chrono::system_clock::time_point;
  using ByReason = std::array<std::uint64_t, controller::reason_count>;

  /// `start`: as it is before the first step. The newest `capacity` records are kept.
  explicit DecisionLog(controller::Controller start, std::size_t capacity = 4096)
      : start_(std::move(start)), capacity_(capacity) {}

  /// One decision. `epoch`: that begins with it.
  void add(Time time, std::uint64_t epoch, const controller::Observation& observation,
           const controller::Controller& decided);
  /// The policy or its parameters were changed.
  void add_change(Time time, controller::Policy policy, const controller::Parameters& parameters);

  /// Decisions so far, and how many of them changed the mode.
  [[nodiscard]] std::uint64_t decisions() const noexcept { return decisions_; }
  /// Of the decisions, those for each reason.
  [[nodiscard]] const ByReason& by_reason() const noexcept { return by_reason_; }
  [[nodiscard]] std::uint64_t mode_changes() const noexcept { return mode_changes_; }
  [[nodiscard]] std::uint64_t last() const noexcept { return last_; }

  /// {"start", "first", "next", "records"}: at most `limit` records behind `after`, oldest first;
  /// docs/api.md. "start" is left out where it is of no use: if `after` is not 0.
  [[nodiscard]] nlohmann::json to_json(std::uint64_t after, std::size_t limit) const;

 private:
  struct Step {
    std::uint64_t epoch;
    controller::Observation observation;
    controller::Decision decision;
    std::vector<controller::Figure> figures;
  };
  struct Change {
    controller::Policy policy;
    controller::Parameters parameters;
  };
  struct Record {
    std::uint64_t seq;
    Time time;
    std::variant<Step, Change> what;
  };
  void push(Time time, std::variant<Step, Change> what);

  controller::Controller start_;
  std::size_t capacity_;
  std::deque<Record> records_;
  std::uint64_t last_ = 0;
  std::uint64_t decisions_ = 0;
  ByReason by_reason_{};
  std::uint64_t mode_changes_ = 0;
};

}  // namespace tandem::control
