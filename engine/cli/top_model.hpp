// What `tandem top` knows of a host's VMs: made of the daemon's answers, whatever those hold. No
// I/O and no clock; times are Unix seconds.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/cli/top_history.hpp"

namespace tandem::cli {

/// One VM, as it is shown. What is not known is missing.
struct TopVm {
  std::string name, role, state, last_error;
  std::string peer, policy, mode;  ///< empty: none
  bool is_protected = false;
  std::optional<double> downtime_ratio, downtime_ratio_bound;
  std::optional<double> pause_last_ms, pause_mean_ms;  ///< of the primary VM
  std::optional<double> dirty_bytes_per_s, wire_bytes_per_s;
  std::optional<std::uint64_t> mismatches;  ///< checkpoints asked for because of a difference
  std::optional<std::uint64_t> held_frames, held_bytes;
  TopHistory history;
};

class TopModel {
 public:
  /// `only`: the VMs that are of interest; empty: all.
  explicit TopModel(std::vector<std::string> only = {}) : only_(std::move(only)) {}

  /// A status of the host.
  void look(const nlohmann::json& status, double now);
  /// The daemon did not answer; shown until it does.
  void miss(std::string problem) { problem_ = std::move(problem); }

  /// A question for GET /v1/vms/NAME/observations.
  struct Question {
    std::string vm;
    std::uint64_t after;
  };
  /// What is worth asking of these VMs, since something has been decided that is not known yet: of
  /// those that were never asked, and of a few others, in turn, so that a look costs no more where
  /// many can be seen. Of all VMs if it is null.
  [[nodiscard]] std::vector<Question> questions(const std::vector<std::string>* visible) const;
  static constexpr std::size_t updates_max = 10;
  /// An answer; true if there is more to ask for.
  bool take(const Question& question, const nlohmann::json& answer);

  /// By name; until the model is told something.
  [[nodiscard]] std::vector<const TopVm*> vms() const;
  [[nodiscard]] const std::string& host() const noexcept { return host_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  /// Of the names asked for, the first that the host does not have; empty: none.
  [[nodiscard]] std::string missing() const;

 private:
  struct Look {
    double time = 0;
    std::uint64_t dirty_bytes = 0, wire_bytes = 0;
  };
  struct Known {
    TopVm vm;
    std::uint64_t generation = 0;
    std::uint64_t decisions = 0, decisions_known = 0;
    std::optional<std::uint64_t> after;
    std::uint64_t taken = 0;  ///< the number of its newest answer among those of all
    std::deque<Look> looks;   ///< of the last seconds: what the rates are over
  };
  void look_at(const nlohmann::json& vm, double now);
  static void measure_rates(Known& known, const nlohmann::json& vm, double now);

  std::vector<std::string> only_;
  std::map<std::string, Known> vms_;
  std::string host_, problem_;
  std::uint64_t worker_ = 0;
  std::uint64_t answers_ = 0;
};

}  // namespace tandem::cli
