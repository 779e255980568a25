#include "engine/session/secondary_machine.hpp"

namespace tandem::session {
namespace {

using Phase = SecondaryMachine::Phase;
using Outcome = FinishSecondary::Outcome;

}  // namespace

std::vector<SecondaryAction> SecondaryMachine::on(const SecondaryEvent& event) {
  Actions out;
  if (phase_ == Phase::ended) return out;
  std::visit([&](const auto& e) { handle(e, out); }, event);
  return out;
}

bool SecondaryMachine::expect(Svm state, std::string_view message, Actions& out) {
  if (svm_ == state) return true;
  handle(SvmStreamEnded{{Errc::protocol,
                         "the secondary's QEMU sent " + std::string(message) + " out of turn"}},
         out);
  return false;
}

void SecondaryMachine::handle(const SvmReady&, Actions& out) {
  if (!expect(Svm::starting, "CHECKPOINT_READY", out)) return;
  if (phase_ != Phase::synchronising) return;
  phase_ = Phase::protecting;
  svm_ = Svm::requested;
  out.push_back(FeedRequest{});
  out.push_back(TellPeer{wire::FrameType::ready, 0, {}});
}

void SecondaryMachine::handle(const SvmReply&, Actions& out) {
  if (!expect(Svm::requested, "CHECKPOINT_REPLY", out)) return;
  svm_ = Svm::armed;
  out.push_back(EndEpoch{});
  advance(out);
}

void SecondaryMachine::handle(const SvmReceived&, Actions& out) {
  if (!expect(Svm::receiving, "VMSTATE_RECEIVED", out)) return;
  svm_ = Svm::loading;
  // Sent before the load has ended, so that the VM stops again as soon as it has.
  if (waiting_.front().mode == Mode::periodic) out.push_back(FeedRequest{});
}

void SecondaryMachine::handle(const SvmLoaded&, Actions& out) {
  if (!expect(Svm::loading, "VMSTATE_LOADED", out)) return;
  const auto checkpoint = waiting_.front();
  waiting_.pop_front();
  loaded_ = checkpoint.number;
  mode_ = checkpoint.mode;
  if (lanes_open_) out.push_back(TellPeer{wire::FrameType::loaded, loaded_, {}});
  svm_ = Svm::requested;
  if (checkpoint.mode == Mode::periodic) return;
  svm_ = Svm::running;
  out.push_back(BeginSecondaryEpoch{loaded_});
  advance(out);
}

void SecondaryMachine::advance(Actions& out) {
  const bool last = waiting_.empty();
  if (last && phase_ != Phase::loading) return;
  if (svm_ == Svm::running) {
    svm_ = Svm::quieting;
    out.push_back(QuietInput{.rest = last});
  } else if (svm_ == Svm::armed && last) {
    phase_ = Phase::promoting;
    out.push_back(Promote{loaded_});
  } else if (svm_ == Svm::armed) {
    svm_ = Svm::receiving;
    out.push_back(Feed{waiting_.front().number, waiting_.front().mode});
  }
}

void SecondaryMachine::handle(const InputQuiet&, Actions& out) {
  if (svm_ != Svm::quieting) return;
  if (!waiting_.empty()) {
    svm_ = Svm::requested;
    out.push_back(FeedRequest{});
  } else {
    // R7: nothing newer is committed, so the VM goes on from where it is.
    phase_ = Phase::promoting;
    out.push_back(Promote{loaded_});
  }
}

void SecondaryMachine::handle(const CheckpointVerified& event, Actions& out) {
  if (phase_ != Phase::protecting) return;
  if (event.checkpoint != committed_ + 1) {
    handle(
        PeerLost{{Errc::protocol, "the peer sent checkpoint " + std::to_string(event.checkpoint) +
                                      " after checkpoint " + std::to_string(committed_)}},
        out);
    return;
  }
  // R1: it is in the queue that a take-over waits for, so from here on it may be acknowledged.
  committed_ = event.checkpoint;
  waiting_.push_back({committed_, event.mode});
  out.push_back(TellPeer{wire::FrameType::committed, committed_, {}});
  advance(out);
}

void SecondaryMachine::handle(const PeerLost& event, Actions& out) {
  if (phase_ == Phase::synchronising) {
    give_up(event.error, out);
    return;
  }
  if (phase_ != Phase::protecting) return;
  close_lanes(out);
  decide(event.error, grace_after(event.error.code), out);
}

std::chrono::milliseconds SecondaryMachine::grace_after(Errc loss) const {
  switch (loss) {
    case Errc::timed_out:
      return std::chrono::milliseconds(0);
    case Errc::unavailable:
      return settings_.link_grace;
    default:
      return settings_.grace;
  }
}

void SecondaryMachine::handle(const PeerTakeOver& event, Actions& out) {
  if (phase_ == Phase::synchronising) {
    give_up({Errc::protocol, "told to take over before the VM was synchronised"}, out);
    return;
  }
  if (phase_ != Phase::protecting) return;
  // The lanes stay open until the arbiter has spoken: a primary that hands over takes their end for
  // a loss, and would ask for the VM back before we have asked for it.
  decide({Errc::closed, event.reason}, std::chrono::milliseconds(0), out);
}

void SecondaryMachine::decide(Error reason, std::chrono::milliseconds delay, Actions& out) {
  phase_ = Phase::deciding;
  reason_ = std::move(reason);
  out.push_back(Claim{generation_, delay});
}

void SecondaryMachine::handle(const PeerEnd& event, Actions& out) {
  if (phase_ != Phase::synchronising && phase_ != Phase::protecting) return;
  give_up({Errc::closed, event.reason}, out);
}

void SecondaryMachine::handle(const Granted& event, Actions& out) {
  if (phase_ != Phase::deciding) return;
  generation_ = event.generation;
  phase_ = Phase::loading;
  close_lanes(out);
  out.push_back(StartLoadTimer{});
  advance(out);
}

void SecondaryMachine::handle(const Denied& event, Actions& out) {
  if (phase_ != Phase::deciding) return;
  generation_ = event.generation;
  give_up({Errc::refused, event.holder + " goes on with the VM (generation " +
                              std::to_string(event.generation) + "); after: " + reason_.message},
          out);
}

void SecondaryMachine::handle(const ArbiterSilent&, Actions& out) {
  if (phase_ == Phase::deciding) out.push_back(Claim{generation_, settings_.claim_retry});
}

void SecondaryMachine::handle(const SvmStreamEnded& event, Actions& out) {
  // Once promoted the stream is closed by us.
  if (phase_ == Phase::promoting) return;
  handle(VmLost{event.error}, out);
}

void SecondaryMachine::handle(const VmLost& event, Actions& out) {
  const bool needed = phase_ == Phase::loading || phase_ == Phase::promoting;
  if (lanes_open_) out.push_back(TellPeer{wire::FrameType::failed, 0, event.error.message});
  out.push_back(KillVm{});
  close_lanes(out);
  phase_ = Phase::ended;
  out.push_back(FinishSecondary{needed ? Outcome::failed : Outcome::discarded, event.error});
}

void SecondaryMachine::handle(const LoadTimeout&, Actions& out) {
  if (phase_ != Phase::loading && phase_ != Phase::promoting) return;
  // To run from an older checkpoint would lose what was acknowledged; better to say that it failed.
  phase_ = Phase::ended;
  out.push_back(
      FinishSecondary{Outcome::failed,
                      {Errc::timed_out, "the secondary's QEMU did not go on from checkpoint " +
                                            std::to_string(committed_) + "; it stays paused"}});
}

void SecondaryMachine::handle(const VmRunning&, Actions& out) {
  if (phase_ != Phase::promoting) return;
  phase_ = Phase::ended;
  out.push_back(Announce{});
  out.push_back(FinishSecondary{Outcome::promoted, reason_});
}

void SecondaryMachine::give_up(Error reason, Actions& out) {
  out.push_back(KillVm{});
  close_lanes(out);
  phase_ = Phase::ended;
  out.push_back(FinishSecondary{Outcome::discarded, std::move(reason)});
}

void SecondaryMachine::close_lanes(Actions& out) {
  if (lanes_open_) out.push_back(CloseLanes{});
  lanes_open_ = false;
}

std::string_view to_string(Phase phase) noexcept {
  switch (phase) {
    case Phase::synchronising:
      return "synchronising";
    case Phase::protecting:
      return "protected";
    case Phase::deciding:
      return "deciding";
    case Phase::loading:
      return "loading";
    case Phase::promoting:
      return "promoting";
    case Phase::ended:
      return "ended";
  }
  return "unknown";
}

std::string_view to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::promoted:
      return "promoted";
    case Outcome::discarded:
      return "discarded";
    case Outcome::failed:
      return "failed";
  }
  return "unknown";
}

}  // namespace tandem::session
