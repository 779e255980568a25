// What happens to a pair, for tests of logs and recordings: cycles that make every policy change
// its mind, and changes at run time.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/control/decision_log.hpp"

namespace tandem::control {

/// A pair whose decisions are logged, as the daemon does it.
class LoggedPair {
 public:
  explicit LoggedPair(controller::Policy policy, std::size_t capacity = 4096,
                      const controller::Parameters& parameters = {})
      : controller_(policy, parameters), log_(controller_, capacity) {}

  /// An epoch in the mode that was decided last. A third of a second is a number that has no end in
  /// binary.
  void run_cycle(double pause_s = 0.01 / 3, double uptime_s = 1.0 / 3, std::uint64_t bytes = 4096) {
    now_s_ += pause_s + uptime_s;
    const controller::Observation cycle{.time_s = now_s_,
                                        .mode = controller_.last().mode,
                                        .pause_s = pause_s,
                                        .uptime_s = uptime_s,
                                        .bytes = bytes,
                                        .mismatches = uptime_s < 0.1 ? 1u : 0u};
    (void)controller_.decide(cycle);
    log_.add(time(), ++epoch_, cycle, controller_);
  }
  /// Colo mode is good for a while, then every output differs, again and again.
  void live(int cycles) {
    for (int i = 0; i < cycles; ++i) {
      const bool bad = controller_.last().mode == controller::Mode::colo && i % 40 > 15;
      bad ? run_cycle(0.03, 0.02, 1u << 20) : run_cycle();
    }
  }
  void change(controller::Policy policy, const controller::Parameters& parameters) {
    controller_.change(policy, parameters);
    log_.add_change(time(), policy, parameters);
  }

  [[nodiscard]] DecisionLog::Time time() const {
    const std::chrono::duration<double> since(1.7e9 + now_s_);
    return DecisionLog::Time(std::chrono::duration_cast<DecisionLog::Time::duration>(since));
  }
  [[nodiscard]] const controller::Controller& controller() const { return controller_; }
  [[nodiscard]] const DecisionLog& log() const { return log_; }

  /// As the daemon answers.
  [[nodiscard]] nlohmann::json answer(std::uint64_t after = 0, std::size_t limit = 500) const {
    auto json = log_.to_json(after, limit);
    json["vm"] = "web";
    return json;
  }
  /// Of all that is kept.
  [[nodiscard]] std::string recording() const {
    const auto all = answer(0, SIZE_MAX);
    const nlohmann::json header{{"tandem_recording", 1}, {"vm", "web"}, {"start", all["start"]}};
    auto text = header.dump() + "\n";
    for (const auto& record : all["records"]) text += record.dump() + "\n";
    return text;
  }

 private:
  controller::Controller controller_;
  DecisionLog log_;
  double now_s_ = 1e5 / 3;
  std::uint64_t epoch_ = 0;
};

}  // namespace tandem::control
