// What the coroutine shells of both sides have in common: what they need, what they tell, what they
// count.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "controller/controller.hpp"
#include "engine/arbiter/arbiter.hpp"
#include "engine/session/machine.hpp"
#include "engine/session/net_channel.hpp"
#include "engine/transport/lane.hpp"
#include "proxy/output_gate.hpp"
#include "qmp/client.hpp"

namespace tandem::session {

struct Lanes {
  std::unique_ptr<transport::Lane> bulk, packet, control;
  std::string local_address;  ///< this side's, empty if there is none
};

/// The same on both sides; the primary's values are sent to the secondary at set-up.
struct PairSettings {
  std::string vm;
  std::string host;  ///< this side's name
  std::string peer;
  std::string local_address;  ///< of the lanes, on this side; empty: no link is watched
  Generation generation = 1;
  std::chrono::milliseconds heartbeat{100};
  std::chrono::milliseconds heartbeat_timeout{400};
  controller::Policy policy = controller::Policy::periodic;
  controller::Parameters parameters;
  std::uint64_t checkpoint_bytes_max =
      0;  ///< from the VM's memory size; nothing larger is accepted
  std::vector<std::string> colo_capabilities;
  ChannelSettings channel;
};

/// The largest checkpoint a VM of this much memory can have: every page with its record header, and
/// its device state.
constexpr std::uint64_t checkpoint_bytes_max(std::uint64_t memory_mib) {
  const auto pages = (memory_mib + 64) * 256;  // video memory and firmware besides
  return pages * (4096 + 8) + (64u << 20);
}

/// What the owner of the VM is told. Called on the session's thread.
struct Observer {
  /// Something a person wants to know; types are listed in docs/api.md.
  std::function<void(std::string type, std::string message, nlohmann::json data)> event;
  /// The arbiter has given this host the VM. Must be on disk before the VM runs alone.
  std::function<void(Generation)> granted;
  /// A checkpoint is committed; so long ago the primary VM was stopped for it. May be empty.
  std::function<void(std::chrono::duration<double>)> committed{};
};

/// The host's side of the VM that a session needs.
struct VmControl {
  std::shared_ptr<qmp::Client> qmp;
  std::vector<std::string> netdevs;
  /// Of these, the channels that a failover has left, and that go on translating.
  std::vector<NetChannel::Pointer> channels;
  /// Joins the VM's taps to their bridges.
  std::function<Result<void>()> connect_network;
  /// SIGKILLs QEMU and returns when it is gone.
  std::function<Task<void>()> kill;
};

/// Durations of one take-over, each from the step before.
struct FailoverTimes {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  Milliseconds detection{0};  ///< last sign of the peer to the verdict "lost"
  Milliseconds decision{0};   ///< to the arbiter's word
  Milliseconds load{0};       ///< to the last committed checkpoint loaded
  Milliseconds running{0};    ///< to the VM running
  Checkpoint checkpoint = 0;
  std::string reason;
};

/// Takes the times of a take-over; what comes before begin() is not noted.
class FailoverWatch {
 public:
  void begin(std::chrono::system_clock::time_point last_heard, std::string reason);
  void decided() { lap(&FailoverTimes::decision); }
  void loaded(Checkpoint checkpoint);
  void running() { lap(&FailoverTimes::running); }
  /// Of the take-over that has begun, if any.
  [[nodiscard]] const std::optional<FailoverTimes>& times() const noexcept { return times_; }

 private:
  void lap(FailoverTimes::Milliseconds FailoverTimes::*step);
  std::optional<FailoverTimes> times_;
  std::chrono::steady_clock::time_point step_began_;
};

struct SessionCounters {
  std::uint64_t dirty_bytes = 0;  ///< page contents in all checkpoints
  std::uint64_t wire_bytes = 0;   ///< on all lanes, both ways
  std::uint64_t checkpoint_bytes_largest = 0;
};

/// Asks the arbiter for what `claim` wants, tells the observer its answer, and returns it as an
/// event.
using ArbiterAnswer = std::variant<Granted, Denied, ArbiterSilent>;
Task<ArbiterAnswer> ask_arbiter(arbiter::Arbiter& arbiter, const PairSettings& settings,
                                Claim claim, const Observer& observer);

/// Sleeps.
Task<void> wait_for(std::chrono::milliseconds delay);

/// Polls query-status every few milliseconds until the VM runs. Errc::timed_out after `limit`.
Task<Result<void>> wait_until_running(qmp::Client& qmp, std::chrono::milliseconds limit);

/// Returns when QEMU's COLO threads are done with a VM that has left COLO. Errc::timed_out after
/// `limit`.
Task<Result<void>> wait_until_colo_has_ended(qmp::Client& qmp, std::chrono::milliseconds limit);

/// A connected pair of unix stream sockets; the second end is handed to QEMU as `name`, the first
/// is ours.
Task<Result<int>> give_socket(qmp::Client& qmp, std::string name);

}  // namespace tandem::session
