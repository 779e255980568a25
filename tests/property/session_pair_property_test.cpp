// Both session machines against a small model of everything around them: two VMs, a network that
// delays and breaks, an arbiter whose answers get lost, and a controller that changes the mode.
// Random schedules, and after every step what must never be.
//
// A schedule is a list of numbers; each picks one of the steps that are possible then. When a
// property fails, rapidcheck prints the seed and the shortest schedule that it could find.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <optional>

#include "base/big_endian.hpp"
#include "engine/arbiter/decision.hpp"
#include "engine/session/primary_machine.hpp"
#include "engine/session/secondary_machine.hpp"
#include "proxy/chardev_framing.hpp"
#include "proxy/output_gate.hpp"

namespace tandem::session {
namespace {

const Error kClosed{Errc::closed, "the lane is closed"};
const Error kSilent{Errc::timed_out, "silent"};

/// Which faults a schedule may contain.
struct Faults {
  bool network = true;
  bool primary_vm = true;
  bool secondary_vm = true;
  bool arbiter = true;
  bool operators = true;
};

class Model {
 public:
  Model(Faults faults, Mode mode) : faults_(faults), primary_({.generation = 1}), wanted_(mode) {
    record_ = *arbiter::establish(std::nullopt, "demo", "alpha", "beta");
  }

  /// One step of the schedule. False if nothing can happen any more.
  bool step(std::uint32_t choice, bool with_faults) {
    std::vector<std::function<void()>> steps;
    collect(steps);
    if (with_faults) collect_faults(steps);
    if (steps.empty()) return false;
    steps[choice % steps.size()]();
    check();
    return true;
  }

  /// With the faults ended: everything that is under way comes to its end.
  void settle() {
    // What nobody would ever report otherwise is at last seen by the heartbeat.
    if (!connected_) lose(true), lose(false);
    for (int i = 0; i < 400; ++i) {
      std::vector<std::function<void()>> steps;
      collect(steps, /*new_work=*/false);
      if (steps.empty()) break;
      steps[static_cast<std::size_t>(i) % steps.size()]();
      check();
    }
  }

  /// Once settled, a pair that has lost its connection has one side that runs the VM, unless
  /// something has happened that explains why it has none.
  void check_settled() {
    if (connected_ && !primary_finished_ && !secondary_finished_) return;
    const bool alone = alone_running_ || promoted_running_;
    const bool explained = pvm_ == Pvm::dead || svm_dead_ || secondary_failed_ || guest_down_ ||
                           primary_finished_ == FinishPrimary::Outcome::vm_lost;
    RC_ASSERT(alone || explained);
    if (faults_.secondary_vm || guest_down_) return;
    // The secondary VM is sound: once protected, the death of the primary alone never ends the VM;
    // but a primary that had got the arbiter's word before it died took the VM with it.
    if (was_protected_ && !ended_on_purpose_ && !primary_granted_) RC_ASSERT(alone);
  }

  [[nodiscard]] bool promoted() const { return promoted_from_.has_value(); }
  [[nodiscard]] bool alone() const { return alone_running_; }
  [[nodiscard]] bool promoted_while_running() const { return promoted_while_running_; }
  [[nodiscard]] std::uint64_t compared() const { return compared_; }
  [[nodiscard]] Checkpoint verified() const { return verified_; }

 private:
  enum class Pvm { synchronising, running, asked, stopped, sent, alone, dead };
  struct FromPrimary {
    enum class Kind { take_over, end, closed } kind;
  };

  using Steps = std::vector<std::function<void()>>;

  // ---- what may happen next

  void collect(Steps& steps, bool new_work = true) {
    // The primary VM.
    if (pvm_ == Pvm::running && pvm_in_colo_ && new_work) {
      // More than one output an epoch, most of the time.
      for (int i = 0; i < 3; ++i) steps.push_back([this] { output(); });
      steps.push_back([this] {
        pvm_ = Pvm::asked;
        primary(VmRequest{});
      });
    }
    if (pvm_ == Pvm::asked) {
      if (new_work) steps.push_back([this] { output(); });
      if (pvm_replied_) {
        steps.push_back([this] {
          pvm_replied_ = false;
          pvm_ = Pvm::stopped;
          primary(VmSend{wanted_});
        });
      }
    }
    if (pvm_ == Pvm::stopped) {
      steps.push_back([this] {
        pvm_ = Pvm::sent;
        outputs_in_[next_checkpoint_++] = outputs_;
        primary(VmCheckpoint{});
      });
    }
    if (run_alone_pending_) {
      steps.push_back([this] {
        run_alone_pending_ = false;
        if (pvm_ == Pvm::dead) {
          primary(VmLost{kClosed});
          return;
        }
        pvm_ = Pvm::alone;
        alone_running_ = true;
        primary(VmRunning{});
      });
    }
    if (alone_running_ && new_work) steps.push_back([this] { output(); });
    if (new_work && pvm_ == Pvm::running) {
      steps.push_back([this] {
        if (++mode_wishes_ % 8 == 0) wanted_ = wanted_ == Mode::colo ? Mode::periodic : Mode::colo;
      });
    }

    // The secondary VM.
    if (!svm_dead_ && !svm_said_ready_) {
      steps.push_back([this] {
        svm_said_ready_ = true;
        secondary(SvmReady{});
      });
    }
    if (!svm_dead_ && !svm_inbox_.empty()) steps.push_back([this] { svm_step(); });
    if (svm_running_ && !svm_dead_ && !promoted_from_ && svm_may_output()) {
      // The same input makes the same output; it may come earlier here than there.
      const auto sent = [this] {
        ++svm_outputs_;
        if (secondary_lanes_open_) packets_.push_back({svm_loaded_, svm_outputs_});
      };
      steps.insert(steps.end(), 2, sent);
    }
    if (quiet_pending_ && !svm_dead_) {
      steps.push_back([this] {
        quiet_pending_ = false;
        secondary(InputQuiet{});
      });
    }
    if (promote_pending_ && !svm_dead_) {
      steps.push_back([this] {
        promote_pending_ = false;
        promoted_running_ = true;
        secondary(VmRunning{});
      });
    }

    // The network. What was sent may still arrive after the connection has broken, or never.
    if (!bulk_.empty()) {
      steps.push_back([this] {
        const auto checkpoint = bulk_.front();
        bulk_.pop_front();
        const auto before = secondary_.committed();
        secondary(CheckpointVerified{checkpoint.number, checkpoint.mode});
        if (secondary_.committed() > before) verified_ = checkpoint.number;
      });
    }
    if (!packets_.empty()) {
      steps.push_back([this] {
        const auto packet = packets_.front();
        packets_.pop_front();
        if (primary_.phase() != PrimaryMachine::Phase::protecting) return;
        RC_ASSERT(packet.epoch <= primary_.last());
        if (packet.epoch != primary_.last()) return;  // R6
        RC_ASSERT(comparing_);
        svm_seen_ = packet.number;
        compare();
      });
    }
    if (!to_secondary_.empty()) {
      steps.push_back([this] {
        const auto message = to_secondary_.front();
        to_secondary_.pop_front();
        switch (message.kind) {
          case FromPrimary::Kind::take_over:
            secondary(PeerTakeOver{"told"});
            break;
          case FromPrimary::Kind::end:
            secondary(PeerEnd{"told"});
            break;
          case FromPrimary::Kind::closed:
            secondary(PeerLost{kClosed});
            break;
        }
      });
    }
    if (!to_primary_.empty()) {
      steps.push_back([this] {
        const auto message = to_primary_.front();
        to_primary_.pop_front();
        deliver_to_primary(message);
      });
    }

    // The arbiter.
    for (const bool of_primary : {true, false}) {
      auto& claim = of_primary ? primary_claim_ : secondary_claim_;
      if (claim) steps.push_back([this, of_primary] { answer_claim(of_primary, false, false); });
    }
  }

  void collect_faults(Steps& steps) {
    if (faults_.network && connected_) {
      steps.push_back([this] { cut(); });
    }
    if (faults_.network) {
      // One side believes that it has lost the other, whether the connection stands or not.
      steps.push_back([this] { lose(true); });
      steps.push_back([this] { lose(false); });
    }
    if (faults_.network && !connected_) {
      if (!bulk_.empty()) steps.push_back([this] { bulk_.pop_back(); });
      if (!to_primary_.empty()) steps.push_back([this] { to_primary_.clear(); });
      if (!packets_.empty()) steps.push_back([this] { packets_.clear(); });
      if (!to_secondary_.empty()) steps.push_back([this] { to_secondary_.clear(); });
    }
    if (faults_.primary_vm && pvm_ != Pvm::dead && !alone_running_) {
      steps.push_back([this] {
        pvm_ = Pvm::dead;
        primary(VmLost{kClosed});
      });
      steps.push_back([this] { primary(VmStreamEnded{kClosed}); });
    }
    if (faults_.secondary_vm && !svm_dead_ && !promoted_running_) {
      steps.push_back([this] {
        svm_dead_ = true;
        secondary(VmLost{kClosed});
      });
      steps.push_back([this] { secondary(LoadTimeout{}); });
    }
    if (faults_.arbiter) {
      for (const bool of_primary : {true, false}) {
        if (!(of_primary ? primary_claim_ : secondary_claim_)) continue;
        // The question is lost; or it is answered and the answer is lost.
        steps.push_back([this, of_primary] { answer_claim(of_primary, true, false); });
        steps.push_back([this, of_primary] { answer_claim(of_primary, false, true); });
      }
    }
    if (faults_.operators) {
      steps.push_back([this] { primary(SwitchOver{}); });
      steps.push_back([this] {
        if (primary_.phase() == PrimaryMachine::Phase::synchronising ||
            primary_.phase() == PrimaryMachine::Phase::protecting) {
          ended_on_purpose_ = true;
        }
        primary(Unprotect{});
      });
      if (pvm_ == Pvm::running && pvm_in_colo_) {
        steps.push_back([this] {
          guest_down_ = true;
          pvm_ = Pvm::dead;
          primary(VmShutdown{});
        });
      }
    }
  }

  // ---- the world's side of it

  void output() {
    ++outputs_;
    if (comparing_) {
      waiting_.push_back(outputs_);
      compare();
    } else {
      const auto frame = frame_of(outputs_);
      gate_.capture({frame, 1});
      look_at_outbox();
    }
  }

  /// A frame's content is its number, so that what leaves can be told apart.
  static std::array<std::byte, proxy::frame_prefix_size + 8> frame_of(std::uint64_t number) {
    std::array<std::byte, proxy::frame_prefix_size + 8> frame{};
    store_be<std::uint32_t>(&frame[0], 8);
    store_be<std::uint64_t>(&frame[proxy::frame_prefix_size], number);
    return frame;
  }

  void compare() {
    while (!waiting_.empty() && waiting_.front() <= svm_seen_) {
      const auto frame = frame_of(waiting_.front());
      waiting_.pop_front();
      ++compared_;
      gate_.pass({frame, 1});
    }
    look_at_outbox();
  }

  /// What has not been compared waits for the commit.
  void end_comparison() {
    for (const auto number : waiting_) {
      const auto frame = frame_of(number);
      gate_.capture({frame, 1});
    }
    waiting_.clear();
  }

  [[nodiscard]] bool svm_may_output() const {
    const auto end = outputs_in_.find(svm_loaded_ + 1);
    return svm_outputs_ < (end == outputs_in_.end() ? outputs_ + 2 : end->second);
  }

  /// What the world sees.
  void look_at_outbox() {
    while (!gate_.outbox().empty()) {
      const auto bytes = gate_.outbox().front();
      constexpr auto size = proxy::frame_prefix_size + 8;
      RC_ASSERT(bytes.size() % size == 0u);
      for (std::size_t at = 0; at < bytes.size(); at += size) {
        const auto number = load_be<std::uint64_t>(&bytes[at + proxy::frame_prefix_size]);
        RC_ASSERT(number == seen_ + 1);  // in order, and none is missing
        seen_ = number;
      }
      gate_.outbox().consume(bytes.size());
    }
  }

  void svm_step() {
    const auto item = svm_inbox_.front();
    if (!item) {  // a REQUEST: the VM stops
      svm_inbox_.pop_front();
      svm_running_ = false;
      secondary(SvmReply{});
      return;
    }
    if (!svm_receiving_) {
      svm_receiving_ = true;
      secondary(SvmReceived{});
      return;
    }
    svm_receiving_ = false;
    svm_inbox_.pop_front();
    svm_loaded_ = *item;
    svm_outputs_ = outputs_in_.at(*item);
    secondary(SvmLoaded{});
  }

  void cut() {
    connected_ = false;
    to_primary_.push_back({TellPeer{wire::FrameType::failed, 0, ""}});
    to_secondary_.push_back({FromPrimary::Kind::closed});
  }

  void lose(bool primary_side) {
    if (primary_side) {
      primary(PeerLost{kSilent});
    } else {
      secondary(PeerLost{kSilent});
    }
  }

  void deliver_to_primary(const TellPeer& message) {
    switch (message.type) {
      case wire::FrameType::ready:
        primary(PeerReady{});
        break;
      case wire::FrameType::committed:
        primary(PeerCommitted{message.number});
        break;
      case wire::FrameType::loaded:
        primary(PeerLoaded{message.number});
        break;
      default:
        primary(PeerLost{kClosed});
        break;
    }
  }

  void answer_claim(bool of_primary, bool question_lost, bool answer_lost) {
    const auto generation = *(of_primary ? primary_claim_ : secondary_claim_);
    (of_primary ? primary_claim_ : secondary_claim_).reset();
    const Error silent{Errc::io, "no answer"};
    std::optional<arbiter::Verdict> verdict;
    if (!question_lost) {
      const auto claimed = arbiter::claim(record_, generation, of_primary ? "alpha" : "beta");
      if (claimed.replacement) record_ = *claimed.replacement;
      if (claimed.verdict.granted && of_primary) primary_granted_ = true;
      if (!answer_lost) verdict = claimed.verdict;
    }
    const auto tell = [&](const auto& event) {
      if (of_primary) {
        primary(event);
      } else {
        secondary(event);
      }
    };
    if (!verdict) {
      tell(ArbiterSilent{silent});
    } else if (verdict->granted) {
      tell(Granted{verdict->generation});
    } else {
      tell(Denied{verdict->generation, verdict->holder});
    }
  }

  // ---- the machines' actions, carried out

  void primary(const PrimaryEvent& event) {
    for (const auto& action : primary_.on(event)) {
      std::visit([this](const auto& a) { perform(a); }, action);
    }
  }
  void secondary(const SecondaryEvent& event) {
    const auto actions = secondary_.on(event);
    for (const auto& action : actions) {
      std::visit([this](const auto& a) { perform_secondary(a); }, action);
    }
  }

  void perform(const AnswerReady&) {
    pvm_in_colo_ = true;
    was_protected_ = true;
    if (pvm_ == Pvm::synchronising) pvm_ = Pvm::running;
  }
  void perform(const AnswerReply&) { pvm_replied_ = true; }
  void perform(const AnswerCheckpoint&) {
    ++answered_;
    if (pvm_ == Pvm::sent) pvm_ = Pvm::running;
  }
  void perform(const HoldOutput&) { gate_.hold(); }
  void perform(const CloseEpoch& action) {
    end_comparison();
    gate_.close_epoch(action.epoch);
  }
  void perform(const BeginEpoch& action) {
    RC_ASSERT(action.epoch == primary_.last());
    comparing_ = action.mode == Mode::colo;
    svm_seen_ = 0;
  }
  void perform(const SecondaryEntered& action) {
    RC_ASSERT(comparing_);
    RC_ASSERT(action.epoch == primary_.last());
  }
  void perform(const ReleaseThrough& action) {
    // Rule R2, seen from the other side: the secondary must have verified the next checkpoint.
    RC_ASSERT(verified_ >= action.epoch + 1);
    gate_.release_through(action.epoch);
    look_at_outbox();
  }
  void perform(const Ship& action) {
    if (lanes_open_) bulk_.push_back(action);
  }
  void perform(const TriggerCheckpoint&) {}
  void perform(const TellPeer& action) {
    if (!lanes_open_) return;
    to_secondary_.push_back({action.type == wire::FrameType::take_over
                                 ? FromPrimary::Kind::take_over
                                 : FromPrimary::Kind::end});
  }
  void perform(const CloseLanes&) {
    if (lanes_open_ && connected_) to_secondary_.push_back({FromPrimary::Kind::closed});
    lanes_open_ = false;
  }
  void perform(const Claim& action) {
    RC_ASSERT(!primary_claim_);  // one question at a time
    primary_claim_ = action.generation;
  }
  void perform(const RunAlone&) {
    RC_ASSERT(record_.solo == "alpha");
    run_alone_pending_ = true;
  }
  void perform(const OpenGate&) {
    RC_ASSERT(alone_running_);
    end_comparison();
    comparing_ = false;
    gate_.open();
    look_at_outbox();
  }
  void perform(const KillVm&) {
    pvm_ = Pvm::dead;
    alone_running_ = false;
    run_alone_pending_ = false;
  }
  void perform(const FinishPrimary& action) {
    primary_finished_ = action.outcome;
    if (lanes_open_ && connected_) to_secondary_.push_back({FromPrimary::Kind::closed});
    lanes_open_ = false;
  }

  void perform_secondary(const FeedRequest&) { svm_inbox_.push_back(std::nullopt); }
  void perform_secondary(const Feed& action) {
    RC_ASSERT(action.checkpoint == svm_loaded_ + 1);  // none is skipped, none comes twice
    RC_ASSERT(!svm_running_);  // a checkpoint is loaded into a VM that stands still
    svm_inbox_.push_back(action.checkpoint);
  }
  void perform_secondary(const TellPeer& action) {
    if (action.type == wire::FrameType::committed) acknowledged_ = action.number;
    if (secondary_lanes_open_ && connected_) to_primary_.push_back(action);
  }
  void perform_secondary(const CloseLanes&) {
    if (secondary_lanes_open_ && connected_) {
      to_primary_.push_back({TellPeer{wire::FrameType::failed, 0, ""}});
    }
    secondary_lanes_open_ = false;
  }
  void perform_secondary(const Claim& action) {
    RC_ASSERT(!secondary_claim_);
    secondary_claim_ = action.generation;
  }
  void perform_secondary(const StartLoadTimer&) {}
  void perform_secondary(const QuietInput&) {
    RC_ASSERT(svm_running_ && !quiet_pending_);
    quiet_pending_ = true;
  }
  void perform_secondary(const EndEpoch&) { RC_ASSERT(!svm_running_); }
  void perform_secondary(const BeginSecondaryEpoch& action) {
    RC_ASSERT(action.epoch == svm_loaded_);  // R4
    svm_running_ = true;
  }
  void perform_secondary(const Promote& action) {
    RC_ASSERT(record_.solo == "beta");
    // R7: the newest that it has acknowledged, and the VM has really loaded it.
    RC_ASSERT(action.checkpoint == acknowledged_);
    RC_ASSERT(action.checkpoint == svm_loaded_);
    promoted_from_ = action.checkpoint;
    promoted_while_running_ = svm_running_;
    if (!svm_running_) svm_outputs_ = svm_loaded_ == 0 ? 0 : outputs_in_.at(svm_loaded_);
    promote_pending_ = true;
  }
  void perform_secondary(const Announce&) {}
  void perform_secondary(const KillVm&) {
    svm_dead_ = true;
    promoted_running_ = false;
    promote_pending_ = false;
  }
  void perform_secondary(const FinishSecondary& action) {
    secondary_finished_ = true;
    secondary_failed_ = action.outcome == FinishSecondary::Outcome::failed;
  }

  // ---- what must be true after every step

  void check() {
    // R8: one at a time.
    RC_ASSERT(!(run_alone_pending_ || alone_running_) || !promoted_from_);
    RC_ASSERT(!promoted_from_ || record_.solo == "beta");
    RC_ASSERT(!alone_running_ || record_.solo == "alpha");
    // R1 and R2: no client has seen output that the surviving state does not contain.
    if (promoted_from_) RC_ASSERT(seen_ <= svm_outputs_);
    // R5: at most two answers without their commit.
    RC_ASSERT(answered_ <= primary_.committed() + 2);
    RC_ASSERT(primary_.committed() <= verified_);
    RC_ASSERT(secondary_.loaded() <= secondary_.committed());
  }

  Faults faults_;
  PrimaryMachine primary_;
  SecondaryMachine secondary_{{.generation = 1}};
  arbiter::Record record_;
  std::optional<Generation> primary_claim_, secondary_claim_;
  bool primary_granted_ = false;

  bool connected_ = true;
  bool lanes_open_ = true, secondary_lanes_open_ = true;
  struct Shipped {
    Checkpoint number;
    Mode mode;
    Shipped(const Ship& ship) : number(ship.checkpoint), mode(ship.mode) {}
  };
  std::deque<Shipped> bulk_;
  struct Packet {
    Checkpoint epoch;
    std::uint64_t number;
  };
  std::deque<Packet> packets_;
  std::deque<FromPrimary> to_secondary_;
  std::deque<TellPeer> to_primary_;

  Pvm pvm_ = Pvm::synchronising;
  bool pvm_in_colo_ = false, pvm_replied_ = false;
  bool run_alone_pending_ = false, alone_running_ = false, guest_down_ = false;
  bool was_protected_ = false, ended_on_purpose_ = false;
  proxy::OutputGate gate_;
  std::uint64_t outputs_ = 0, seen_ = 0;
  bool comparing_ = false;
  std::deque<std::uint64_t> waiting_;
  std::uint64_t svm_seen_ = 0;  ///< what has come of the secondary's output in this epoch
  std::uint64_t compared_ = 0;
  Mode wanted_;  ///< what a controller says of the next epoch
  std::uint32_t mode_wishes_ = 0;
  Checkpoint next_checkpoint_ = 1;
  std::map<Checkpoint, std::uint64_t> outputs_in_;
  std::uint64_t answered_ = 0;

  bool svm_said_ready_ = false, svm_receiving_ = false, svm_dead_ = false;
  std::deque<std::optional<Checkpoint>> svm_inbox_;  ///< a REQUEST, or a checkpoint to load
  bool svm_running_ = false, quiet_pending_ = false, promoted_while_running_ = false;
  std::uint64_t svm_outputs_ = 0;  ///< contained in the secondary VM's state
  Checkpoint svm_loaded_ = 0, verified_ = 0, acknowledged_ = 0;
  std::optional<Checkpoint> promoted_from_;
  bool promote_pending_ = false, promoted_running_ = false;
  std::optional<FinishPrimary::Outcome> primary_finished_;
  bool secondary_finished_ = false, secondary_failed_ = false;
};

/// More schedules than rapidcheck's hundred, unless RC_PARAMS says otherwise.
[[maybe_unused]] const int many_schedules = ::setenv("RC_PARAMS", "max_success=3000", 0);

/// A run without faults first, so that the pair is protected and at work when they begin.
void play(Faults faults) {
  const auto quiet = *rc::gen::inRange(0, 400);
  const auto schedule =
      *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange<std::uint32_t>(0, 5040));
  Model model(faults, *rc::gen::element(Mode::periodic, Mode::colo));
  std::uint32_t turn = *rc::gen::arbitrary<std::uint32_t>();
  for (int i = 0; i < quiet; ++i) {
    turn = turn * 1664525 + 1013904223;
    model.step(turn >> 16, false);
  }
  for (const auto choice : schedule) model.step(choice, true);
  model.settle();
  model.check_settled();
  RC_CLASSIFY(model.promoted(), "the secondary took over");
  RC_CLASSIFY(model.promoted() && model.verified() > 2, "after several checkpoints");
  RC_CLASSIFY(model.alone(), "the primary went on alone");
  RC_CLASSIFY(model.compared() > 0, "output left by comparison");
  RC_CLASSIFY(model.promoted_while_running(), "the secondary took over while it ran");
}

RC_GTEST_PROP(SessionPair, KeepsItsPromisesUnderAllFaults, ()) {
  play({});
}

RC_GTEST_PROP(SessionPair, KeepsItsPromisesWhenOnlyTheNetworkFails, ()) {
  play({.primary_vm = false, .secondary_vm = false, .arbiter = false, .operators = false});
}

RC_GTEST_PROP(SessionPair, KeepsItsPromisesWhenThePrimaryVmDies, ()) {
  play({.network = false, .secondary_vm = false, .arbiter = true, .operators = false});
}

RC_GTEST_PROP(SessionPair, KeepsItsPromisesWhenOperatorsMeddle, ()) {
  play({.network = true, .primary_vm = false, .secondary_vm = false, .arbiter = false});
}

}  // namespace
}  // namespace tandem::session
