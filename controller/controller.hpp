// Which mode a pair runs its next epoch in, and when the checkpoint that ends it is due: a policy,
// its parameters, and its state.
//
// Pure: what is decided depends on the policy, the parameters and the observations since the start,
// and on nothing else. A Controller is a value; a copy decides as the original does.
#pragma once

#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "controller/adaptive.hpp"
#include "controller/hybrid.hpp"
#include "controller/observation.hpp"
#include "controller/parameters.hpp"
#include "controller/threshold.hpp"
#include "controller/window.hpp"

namespace tandem::controller {

enum class Policy { periodic, colo, threshold, hybrid, adaptive };

constexpr Policy policies[] = {Policy::periodic, Policy::colo, Policy::threshold, Policy::hybrid,
                               Policy::adaptive};

std::string_view to_string(Policy policy) noexcept;
std::optional<Policy> policy_from_string(std::string_view text) noexcept;

/// `periodic` or `colo`, and nothing else.
struct Fixed {
  Mode mode = Mode::periodic;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("mode", self.mode);
  }
};

class Controller {
 public:
  using State = std::variant<Fixed, Threshold, Hybrid, Adaptive>;

  Controller(Policy policy, const Parameters& parameters);

  /// After each cycle. Whatever the observation says, the numbers stay finite, and the next
  /// checkpoint is not due before 1 / checkpoint_rate_max.
  Decision decide(const Observation& cycle);

  /// The policy begins anew if it is another one; else it goes on from its state, within the new
  /// limits. last() then says what is wanted until the next cycle.
  void change(Policy policy, const Parameters& parameters);

  [[nodiscard]] Policy policy() const noexcept { return policy_; }
  [[nodiscard]] const Parameters& parameters() const noexcept { return parameters_; }
  /// Over all modes.
  [[nodiscard]] const Window& window() const noexcept { return window_; }
  /// The numbers that the last decision was made from.
  [[nodiscard]] std::vector<Figure> figures() const;
  /// What state the policy is in: "periodic", "measuring" or "colo".
  [[nodiscard]] std::string_view state_name() const;

  [[nodiscard]] const State& state() const noexcept { return state_; }
  /// For a recording: continues where another controller was. The state must be of the policy.
  void restore(State state, Window window, Decision last);
  /// What was decided last; before the first cycle, what the policy begins with.
  [[nodiscard]] const Decision& last() const noexcept { return last_; }

 private:
  [[nodiscard]] Decision limited(Decision decision) const;

  Policy policy_;
  Parameters parameters_;
  State state_;
  Window window_;
  Decision last_;
};

}  // namespace tandem::controller
