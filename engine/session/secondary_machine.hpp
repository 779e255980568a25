// The secondary's side of a pair as a state machine: commit, load, and take over. Pure; see
// machine.hpp.
//
// In periodic mode the secondary VM is passive: it gets its next CHECKPOINT_REQUEST as soon as it
// has loaded a checkpoint, and so stays stopped until the one after. In colo mode it runs until the
// next checkpoint is committed; what it is fed of the old epoch's input by then is worked off first
// (R4).
#pragma once

#include <chrono>
#include <deque>
#include <variant>
#include <vector>

#include "engine/session/machine.hpp"

namespace tandem::session {

/// The secondary VM's answers on its COLO stream.
struct SvmReady {};
struct SvmReply {};
struct SvmReceived {};
struct SvmLoaded {};
/// The stream to the secondary VM ended or said something unexpected.
struct SvmStreamEnded {
  Error error;
};
/// A checkpoint is in memory, whole, and its length and digest are right.
struct CheckpointVerified {
  Checkpoint checkpoint;
  Mode mode = Mode::periodic;  ///< of the epoch that begins with it
};
/// The running VM has taken all the input that it was given, and gets no more.
struct InputQuiet {};
/// The primary VM has ended for good; its daemon says so.
struct PeerTakeOver {
  std::string reason;
};
/// Protection ends; the secondary VM is not needed.
struct PeerEnd {
  std::string reason;
};
/// Loading the committed checkpoints took too long.
struct LoadTimeout {};

using SecondaryEvent =
    std::variant<SvmReady, SvmReply, SvmReceived, SvmLoaded, SvmStreamEnded, VmLost,
                 CheckpointVerified, InputQuiet, PeerLost, PeerTakeOver, PeerEnd, Granted, Denied,
                 ArbiterSilent, LoadTimeout, VmRunning>;

struct FeedRequest {};  ///< send CHECKPOINT_REQUEST to the secondary VM
struct Feed {           ///< send it this checkpoint's bytes
  Checkpoint checkpoint;
  Mode mode;  ///< of the epoch that begins with it
};
/// Feed the running VM no more input, and see that it takes what it has been given: InputQuiet.
/// With `rest`, what has come for this epoch is fed before.
struct QuietInput {
  bool rest;
};
/// The VM has stopped: what it has output belongs to the epoch that is over (R3).
struct EndEpoch {};
/// The VM runs from this checkpoint, and gets the input of its epoch (R4).
struct BeginSecondaryEpoch {
  Checkpoint epoch;
};
/// All committed checkpoints are to be loaded before long; watch the time.
struct StartLoadTimer {};
/// Connect the VM to its network, close its stream, tell QEMU that the heartbeat is lost, wait
/// until it runs: VmRunning.
struct Promote {
  Checkpoint checkpoint;
};
struct Announce {};
struct FinishSecondary {
  enum class Outcome {
    promoted,   ///< the VM goes on here
    discarded,  ///< the VM was not needed, or must not run here
    failed,     ///< it should have gone on here and could not
  };
  Outcome outcome;
  Error reason;
};

using SecondaryAction =
    std::variant<TellPeer, FeedRequest, Feed, QuietInput, EndEpoch, BeginSecondaryEpoch, CloseLanes,
                 Claim, StartLoadTimer, Promote, Announce, KillVm, FinishSecondary>;

class SecondaryMachine {
 public:
  enum class Phase { synchronising, protecting, deciding, loading, promoting, ended };

  struct Settings {
    Generation generation = 1;
    /// How long a primary whose connection was closed (and did not merely fall silent) may take to
    /// claim the VM first: its host lives, and a VM that stays where it is loses no work.
    std::chrono::milliseconds grace{700};
    /// The same for a primary behind a link that is down: its host may have died with it.
    std::chrono::milliseconds link_grace{50};
    std::chrono::milliseconds claim_retry{200};
  };
  explicit SecondaryMachine(Settings settings)
      : settings_(settings), generation_(settings.generation) {}

  std::vector<SecondaryAction> on(const SecondaryEvent& event);

  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  [[nodiscard]] Checkpoint committed() const noexcept { return committed_; }
  [[nodiscard]] Checkpoint loaded() const noexcept { return loaded_; }
  [[nodiscard]] Generation generation() const noexcept { return generation_; }
  /// Of the newest epoch that the VM has loaded the checkpoint of.
  [[nodiscard]] Mode mode() const noexcept { return mode_; }
  /// Committed checkpoints wait for the VM to load them.
  [[nodiscard]] bool is_loading() const noexcept { return !waiting_.empty(); }

 private:
  /// Where the secondary VM is in its own checkpoint cycle.
  enum class Svm {
    starting,
    requested,  ///< REQUEST sent
    armed,      ///< stopped
    receiving,  ///< the checkpoint is being sent to it
    loading,
    running,  ///< colo
    quieting  ///< colo: running off the input that it was given
  };

  using Actions = std::vector<SecondaryAction>;
  void handle(const SvmReady&, Actions& out);
  void handle(const SvmReply&, Actions& out);
  void handle(const SvmReceived&, Actions& out);
  void handle(const SvmLoaded&, Actions& out);
  void handle(const SvmStreamEnded& event, Actions& out);
  void handle(const VmLost& event, Actions& out);
  void handle(const CheckpointVerified& event, Actions& out);
  void handle(const InputQuiet&, Actions& out);
  void handle(const PeerLost& event, Actions& out);
  void handle(const PeerTakeOver& event, Actions& out);
  void handle(const PeerEnd& event, Actions& out);
  void handle(const Granted& event, Actions& out);
  void handle(const Denied& event, Actions& out);
  void handle(const ArbiterSilent& event, Actions& out);
  void handle(const LoadTimeout&, Actions& out);
  void handle(const VmRunning&, Actions& out);

  bool expect(Svm state, std::string_view message, Actions& out);
  void advance(Actions& out);
  void decide(Error reason, std::chrono::milliseconds delay, Actions& out);
  void give_up(Error reason, Actions& out);
  void close_lanes(Actions& out);
  [[nodiscard]] std::chrono::milliseconds grace_after(Errc loss) const;

  Settings settings_;
  Generation generation_;
  Phase phase_ = Phase::synchronising;
  Svm svm_ = Svm::starting;
  Mode mode_ = Mode::periodic;
  Checkpoint committed_ = 0;
  Checkpoint loaded_ = 0;
  struct Committed {
    Checkpoint number;
    Mode mode;
  };
  std::deque<Committed> waiting_;  ///< not loaded; bounded by the receiver's buffers
  bool lanes_open_ = true;
  Error reason_{Errc::closed, ""};
};

std::string_view to_string(SecondaryMachine::Phase phase) noexcept;
std::string_view to_string(FinishSecondary::Outcome outcome) noexcept;

}  // namespace tandem::session
