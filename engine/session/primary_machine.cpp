#include "engine/session/primary_machine.hpp"

namespace tandem::session {
namespace {

using Phase = PrimaryMachine::Phase;
using Outcome = FinishPrimary::Outcome;

Error out_of_order(std::string_view what, Checkpoint got, Checkpoint expected_min,
                   Checkpoint expected_max) {
  return {Errc::protocol, "the peer says it has " + std::string(what) + " checkpoint " +
                              std::to_string(got) + "; expected one of " +
                              std::to_string(expected_min) + " to " + std::to_string(expected_max)};
}

}  // namespace

std::vector<PrimaryAction> PrimaryMachine::on(const PrimaryEvent& event) {
  Actions out;
  if (phase_ == Phase::ended) return out;
  std::visit([&](const auto& e) { handle(e, out); }, event);
  return out;
}

void PrimaryMachine::handle(const PeerReady&, Actions& out) {
  if (phase_ != Phase::synchronising) return;
  // The VM is stopped until it is answered, so everything that it has output is part of checkpoint
  // 0.
  phase_ = Phase::protecting;
  out.push_back(HoldOutput{});
  out.push_back(AnswerReady{});
}

void PrimaryMachine::handle(const VmRequest&, Actions& out) {
  // While the arbiter is asked the VM runs on unanswered: its next pause must not depend on the
  // answer.
  if (phase_ == Phase::protecting) out.push_back(AnswerReply{});
}

void PrimaryMachine::handle(const VmSend& event, Actions& out) {
  if (phase_ != Phase::protecting) return;
  ++last_;
  out.push_back(CloseEpoch{last_ - 1});
  mode_ = event.mode;
  out.push_back(BeginEpoch{last_, mode_});
}

void PrimaryMachine::handle(const VmCheckpoint&, Actions& out) {
  if (phase_ != Phase::protecting) return;
  whole_ = last_;
  // The mode cannot have changed since the epoch began: that takes another checkpoint.
  out.push_back(Ship{whole_, mode_});
  answer_held_ = true;
  answer_if_allowed(out);
}

void PrimaryMachine::answer_if_allowed(Actions& out) {
  // In a switch-over the VM never runs here again unless the peer is lost before it takes over.
  if (!answer_held_ || switching_ || in_flight() > settings_.in_flight_max) return;
  answer_held_ = false;
  out.push_back(AnswerCheckpoint{});
}

void PrimaryMachine::handle(const PeerCommitted& event, Actions& out) {
  if (phase_ != Phase::protecting) return;
  if (event.checkpoint != committed_ + 1 || event.checkpoint > whole_) {
    handle(PeerLost{out_of_order("committed", event.checkpoint, committed_ + 1, whole_)}, out);
    return;
  }
  committed_ = event.checkpoint;
  // R2: the epoch that ended with this checkpoint may be seen by the world.
  out.push_back(ReleaseThrough{committed_ - 1});
  if (switching_ && answer_held_ && committed_ == whole_) {
    phase_ = Phase::handing_over;
    out.push_back(TellPeer{wire::FrameType::take_over, committed_, R"({"reason":"switch-over"})"});
    return;
  }
  answer_if_allowed(out);
}

void PrimaryMachine::handle(const PeerLoaded& event, Actions& out) {
  if (phase_ != Phase::protecting) return;
  if (event.checkpoint <= loaded_ || event.checkpoint > committed_) {
    handle(PeerLost{out_of_order("loaded", event.checkpoint, loaded_ + 1, committed_)}, out);
    return;
  }
  loaded_ = event.checkpoint;
  if (mode_ == Mode::colo && loaded_ == last_) out.push_back(SecondaryEntered{loaded_});
}

void PrimaryMachine::handle(const PeerLost& event, Actions& out) {
  if (phase_ == Phase::deciding || phase_ == Phase::going_alone) {
    if (lanes_open_) out.push_back(CloseLanes{});
    lanes_open_ = false;
    return;
  }
  decide(Outcome::solo, event.error, true, out);
}

void PrimaryMachine::handle(const VmStreamEnded& event, Actions& out) {
  if (phase_ == Phase::deciding || phase_ == Phase::going_alone) return;
  decide(Outcome::solo, event.error, true, out);
}

void PrimaryMachine::handle(const VmShutdown&, Actions& out) {
  if (phase_ == Phase::going_alone) return;
  // Without the arbiter's word a peer that misses our message would bring the VM back to life.
  decide(Outcome::guest_shutdown, {Errc::closed, "the guest powered itself off"}, false, out);
}

void PrimaryMachine::handle(const Unprotect&, Actions& out) {
  if (phase_ != Phase::synchronising && phase_ != Phase::protecting) return;
  decide(Outcome::unprotected, {Errc::closed, "protection was ended"}, false, out);
}

void PrimaryMachine::handle(const SwitchOver&, Actions& out) {
  if (phase_ != Phase::protecting || switching_) return;
  switching_ = true;
  if (!answer_held_) out.push_back(TriggerCheckpoint{});
}

void PrimaryMachine::handle(const VmLost& event, Actions& out) {
  if (phase_ == Phase::deciding && if_granted_ == Outcome::guest_shutdown) return;
  reason_ = event.error;
  out.push_back(KillVm{});
  if (lanes_open_ && (phase_ == Phase::protecting || phase_ == Phase::handing_over)) {
    out.push_back(TellPeer{wire::FrameType::take_over, committed_, R"({"reason":"vm-lost"})"});
  } else if (lanes_open_) {
    out.push_back(TellPeer{wire::FrameType::end, 0, R"({"reason":"vm-lost"})"});
  }
  finish(Outcome::vm_lost, out);
}

void PrimaryMachine::decide(Outcome if_granted, Error reason, bool close_lanes, Actions& out) {
  const bool asking = phase_ == Phase::deciding;
  phase_ = Phase::deciding;
  if_granted_ = if_granted;
  reason_ = std::move(reason);
  if (close_lanes && lanes_open_) {
    out.push_back(CloseLanes{});
    lanes_open_ = false;
  }
  if (!asking) out.push_back(Claim{generation_, std::chrono::milliseconds(0)});
}

void PrimaryMachine::handle(const Granted& event, Actions& out) {
  if (phase_ != Phase::deciding) return;
  generation_ = event.generation;
  if (lanes_open_) {
    const auto* why = if_granted_ == Outcome::guest_shutdown ? R"({"reason":"guest-shutdown"})"
                                                             : R"({"reason":"unprotect"})";
    out.push_back(TellPeer{wire::FrameType::end, 0, why});
    out.push_back(CloseLanes{});
    lanes_open_ = false;
  }
  if (if_granted_ == Outcome::guest_shutdown) {
    finish(Outcome::guest_shutdown, out);
    return;
  }
  phase_ = Phase::going_alone;
  out.push_back(RunAlone{});
}

void PrimaryMachine::handle(const Denied& event, Actions& out) {
  if (phase_ != Phase::deciding) return;
  generation_ = event.generation;
  // R8: a newer generation runs elsewhere; not one more byte may leave here.
  reason_ = {Errc::refused, "generation " + std::to_string(event.generation) +
                                " of the VM runs on " + event.holder +
                                "; after: " + reason_.message};
  out.push_back(KillVm{});
  finish(Outcome::superseded, out);
}

void PrimaryMachine::handle(const ArbiterSilent&, Actions& out) {
  if (phase_ == Phase::deciding) out.push_back(Claim{generation_, settings_.claim_retry});
}

void PrimaryMachine::handle(const VmRunning&, Actions& out) {
  if (phase_ != Phase::going_alone) return;
  out.push_back(OpenGate{});
  finish(if_granted_, out);
}

void PrimaryMachine::finish(Outcome outcome, Actions& out) {
  phase_ = Phase::ended;
  out.push_back(FinishPrimary{outcome, reason_});
}

std::string_view to_string(Phase phase) noexcept {
  switch (phase) {
    case Phase::synchronising:
      return "synchronising";
    case Phase::protecting:
      return "protected";
    case Phase::handing_over:
      return "handing-over";
    case Phase::deciding:
      return "deciding";
    case Phase::going_alone:
      return "going-alone";
    case Phase::ended:
      return "ended";
  }
  return "unknown";
}

std::string_view to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::solo:
      return "solo";
    case Outcome::unprotected:
      return "unprotected";
    case Outcome::vm_lost:
      return "vm-lost";
    case Outcome::guest_shutdown:
      return "guest-shutdown";
    case Outcome::superseded:
      return "superseded";
  }
  return "unknown";
}

}  // namespace tandem::session
