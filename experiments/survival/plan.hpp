// Which connections a round of the survival experiment has, and when its blows fall: all of it
// follows from the seed, so that a round can be played again.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controller/controller.hpp"
#include "experiments/demo/kill_plan.hpp"

namespace tandem::survival {

/// What a connection is there to show.
enum class Kind {
  before,     ///< opened before the last checkpoint
  after,      ///< opened after it
  handshake,  ///< being opened, by either side, at the instant of the kill
  guest,      ///< opened by the guest, before and after the last checkpoint
  first,      ///< the first TCP connection in the guest's life, after the last checkpoint
  bulk_up,    ///< a stream to the guest through the kill
  bulk_down,  ///< and from it
  random,     ///< a service of which no two copies answer alike
  wrap,       ///< its sequence numbers, the client's or the guest's, pass 2^32
  sack        ///< streams both ways that lose segments, so that SACK blocks say which
};
/// "before", "bulk-up" and so on.
std::string_view to_string(Kind kind) noexcept;
std::optional<Kind> kind_from_string(std::string_view name) noexcept;
const std::vector<Kind>& all_kinds();
/// Whether connections of this kind send as fast as they can.
bool is_stream(Kind kind) noexcept;

/// How checkpoints are chosen; the names that tandemd's API takes.
using controller::Policy;

struct RoundPlan {
  struct Blow {
    demo::KillKind kind = demo::KillKind::primary_host;
    bool hang = false;  ///< primary_daemon only
    /// From the opening of the connections of Kind::after to the kill.
    std::chrono::microseconds gap{0};
  };
  struct Handshake {
    std::chrono::microseconds offset{0};  ///< of the SYN, or of the request to dial, from the kill
    bool by_guest = false;
  };
  struct Wrap {
    std::uint32_t bytes_left = 0;  ///< until the numbers are at their end
    bool by_guest = false;
  };
  std::uint64_t seed = 0;
  std::vector<Blow> blows;  ///< one, or two with a second failover
  std::vector<Handshake> handshakes;
  std::vector<Wrap> wraps;
  /// Whether streams run beside other connections: in half of the rounds. Where they do, the two
  /// VMs' output differs now and then, and few connections are "after the last checkpoint".
  bool streams = true;
};

/// `kill` nullopt: host and QEMU in turn, by the seed.
RoundPlan plan_round(std::uint64_t seed, std::optional<demo::KillKind> kill, Policy policy,
                     bool second_failover);

}  // namespace tandem::survival
