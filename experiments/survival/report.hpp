// What the connections of the survival experiment lived through, as JSON and as a verdict.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experiments/survival/conversation.hpp"
#include "experiments/survival/path.hpp"
#include "experiments/survival/plan.hpp"

namespace tandem::survival {

/// One connection in one round.
struct ConnectionResult {
  Kind kind = Kind::before;
  std::string name;  ///< which of its kind, for people
  bool survived = false;
  std::string problem;
  std::vector<double> outage_ms;     ///< the longest silence after each kill
  std::optional<double> connect_ms;  ///< from the first SYN to the end of the handshake
  std::uint64_t bytes_sent = 0, bytes_received = 0, replies = 0;
  double seconds = 0;  ///< from its establishment to its end
  /// Kinds after, first and guest: no checkpoint lay between its opening and what the survivor goes
  /// on from.
  bool after_last_checkpoint = false;
  bool wrapped = false;
  std::uint64_t retransmitted = 0;
};

struct RoundResult {
  std::uint64_t seed = 0;
  std::vector<demo::KillKind> kills;
  std::vector<ConnectionResult> connections;
  std::vector<std::string> failures;  ///< what was not as promised; empty: the round passed
  std::vector<std::optional<double>> failover_ms;  ///< by kill
  std::vector<std::string> survivors;
  std::uint64_t checksum_errors = 0;  ///< that the client found
  std::optional<world::DelayLineCounters> line;
  /// What the primary said last before each kill: GET /v1/vms/NAME.
  std::vector<nlohmann::json> before;
  /// What the survivor said last of it.
  std::vector<nlohmann::json> after;
  /// Differences that a service must have made, and the checkpoints there were while it ran.
  std::optional<std::uint64_t> random_replies, random_checkpoints;

  [[nodiscard]] bool passed() const noexcept { return failures.empty(); }
};

struct Setting {
  Policy policy = Policy::periodic;
  PathOptions path;
  std::vector<Kind> kinds;
  bool second_failover = false;
};

/// The longest time without an answer of which some part lies in [from, to]; the opening counts as
/// an answer. A connection that still waits at `to` waits until then.
double outage_ms(const Outcome& outcome, Time from, Time to);

nlohmann::json to_json(const RoundResult& round);
nlohmann::json to_json(const Setting& setting, const std::vector<RoundResult>& rounds);

/// Held against the experiment itself: whether the rounds have shown what they are there to show,
/// and in the promised time. A line for each that they have not.
std::vector<std::string> broken_promises(const Setting& setting,
                                         const std::vector<RoundResult>& rounds);

}  // namespace tandem::survival
