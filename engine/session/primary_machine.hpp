// The primary's side of a pair as a state machine: checkpoints, output commit, and what happens
// when something ends. Pure; see machine.hpp.
#pragma once

#include <chrono>
#include <optional>
#include <variant>
#include <vector>

#include "engine/session/machine.hpp"

namespace tandem::session {

/// The primary VM's COLO stream.
struct VmRequest {};  ///< CHECKPOINT_REQUEST: the VM runs and asks
/// VMSTATE_SEND: the VM is stopped, all its output of the epoch is captured. The next epoch is to
/// be run in `mode`.
struct VmSend {
  Mode mode;
};
struct VmCheckpoint {};  ///< the whole checkpoint is in memory
struct VmStreamEnded {   ///< the stream broke or was malformed, and QEMU lives
  Error error;
};
struct VmShutdown {};  ///< the guest powered itself off
struct PeerReady {};   ///< checkpoint 0 is committed
struct PeerCommitted {
  Checkpoint checkpoint;
};
struct PeerLoaded {
  Checkpoint checkpoint;
};
struct Unprotect {};   ///< an operator ends protection
struct SwitchOver {};  ///< an operator wants the secondary to take over

using PrimaryEvent = std::variant<VmRequest, VmSend, VmCheckpoint, VmStreamEnded, VmShutdown,
                                  VmLost, VmRunning, PeerReady, PeerCommitted, PeerLoaded, PeerLost,
                                  Granted, Denied, ArbiterSilent, Unprotect, SwitchOver>;

/// Answers to the VM's stream.
struct AnswerReady {};  ///< CHECKPOINT_READY: the VM leaves the initial synchronisation and runs
struct AnswerReply {};  ///< CHECKPOINT_REPLY
struct AnswerCheckpoint {};  ///< VMSTATE_RECEIVED and VMSTATE_LOADED: the VM runs on
/// Drain what the VM has output so far, let it leave, and hold from now on.
struct HoldOutput {};
/// Drain what the VM has output; it belongs to this epoch (R3).
struct CloseEpoch {
  Checkpoint epoch;
};
/// The epoch that begins when the VM runs on from checkpoint `epoch`.
struct BeginEpoch {
  Checkpoint epoch;
  Mode mode;
};
/// In colo mode: the secondary VM has loaded the checkpoint that this epoch began with, and runs in
/// it.
struct SecondaryEntered {
  Checkpoint epoch;
};
struct ReleaseThrough {
  Checkpoint epoch;
};
/// Send the checkpoint just received to the peer.
struct Ship {
  Checkpoint checkpoint;
  Mode mode;  ///< of the epoch that begins with it
};
struct TriggerCheckpoint {};
/// Close the stream, tell QEMU that the heartbeat is lost, wait until the VM runs: VmRunning.
struct RunAlone {};
/// Let all held output leave and take the filters off.
struct OpenGate {};
struct FinishPrimary {
  enum class Outcome {
    solo,            ///< the VM goes on here, unprotected
    unprotected,     ///< as an operator asked
    vm_lost,         ///< QEMU died; the peer takes over if it was protected
    guest_shutdown,  ///< the guest powered itself off
    superseded,      ///< the peer runs the VM; ours was killed
  };
  Outcome outcome;
  Error reason;
};

using PrimaryAction =
    std::variant<AnswerReady, AnswerReply, AnswerCheckpoint, HoldOutput, CloseEpoch, BeginEpoch,
                 SecondaryEntered, ReleaseThrough, Ship, TriggerCheckpoint, TellPeer, CloseLanes,
                 Claim, RunAlone, OpenGate, KillVm, FinishPrimary>;

class PrimaryMachine {
 public:
  enum class Phase { synchronising, protecting, handing_over, deciding, going_alone, ended };

  struct Settings {
    Generation generation = 1;
    unsigned in_flight_max = 2;  ///< answered, not committed (R5)
    std::chrono::milliseconds claim_retry{200};
  };
  explicit PrimaryMachine(Settings settings)
      : settings_(settings), generation_(settings.generation) {}

  /// What to do now, in this order.
  std::vector<PrimaryAction> on(const PrimaryEvent& event);

  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  [[nodiscard]] Checkpoint last() const noexcept { return last_; }
  [[nodiscard]] Checkpoint committed() const noexcept { return committed_; }
  [[nodiscard]] Checkpoint loaded() const noexcept { return loaded_; }
  [[nodiscard]] Generation generation() const noexcept { return generation_; }
  /// Of the epoch that the VM is in. The first one, up to checkpoint 1, is always periodic.
  [[nodiscard]] Mode mode() const noexcept { return mode_; }
  /// Checkpoints received whole and not committed.
  [[nodiscard]] std::uint64_t in_flight() const noexcept { return whole_ - committed_; }
  /// The VM is stopped and waits for its answer because the peer is slow.
  [[nodiscard]] bool answer_held() const noexcept { return answer_held_; }

 private:
  using Actions = std::vector<PrimaryAction>;
  void handle(const VmRequest&, Actions& out);
  void handle(const VmSend& event, Actions& out);
  void handle(const VmCheckpoint&, Actions& out);
  void handle(const VmStreamEnded& event, Actions& out);
  void handle(const VmShutdown&, Actions& out);
  void handle(const VmLost& event, Actions& out);
  void handle(const VmRunning&, Actions& out);
  void handle(const PeerReady&, Actions& out);
  void handle(const PeerCommitted& event, Actions& out);
  void handle(const PeerLoaded& event, Actions& out);
  void handle(const PeerLost& event, Actions& out);
  void handle(const Granted& event, Actions& out);
  void handle(const Denied& event, Actions& out);
  void handle(const ArbiterSilent& event, Actions& out);
  void handle(const Unprotect&, Actions& out);
  void handle(const SwitchOver&, Actions& out);

  /// Stops relying on the peer and asks the arbiter who goes on. The VM's state stays as it is.
  void decide(FinishPrimary::Outcome if_granted, Error reason, bool close_lanes, Actions& out);
  void finish(FinishPrimary::Outcome outcome, Actions& out);
  void answer_if_allowed(Actions& out);

  Settings settings_;
  Generation generation_;
  Phase phase_ = Phase::synchronising;
  Mode mode_ = Mode::periodic;
  Checkpoint last_ = 0;   ///< newest begun
  Checkpoint whole_ = 0;  ///< newest received whole
  Checkpoint committed_ = 0;
  Checkpoint loaded_ = 0;
  bool answer_held_ = false;
  bool switching_ = false;
  bool lanes_open_ = true;
  FinishPrimary::Outcome if_granted_ = FinishPrimary::Outcome::solo;
  Error reason_{Errc::closed, ""};
};

std::string_view to_string(PrimaryMachine::Phase phase) noexcept;
std::string_view to_string(FinishPrimary::Outcome outcome) noexcept;

}  // namespace tandem::session
