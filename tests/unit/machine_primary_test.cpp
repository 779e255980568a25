// The primary's decisions, one rule at a time. R1 to R9 are the rules of docs/architecture.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/session/primary_machine.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using Phase = PrimaryMachine::Phase;
using Outcome = FinishPrimary::Outcome;
using Actions = std::vector<PrimaryAction>;

const Error kLost{Errc::timed_out, "beta has been silent"};

template <class T>
const T* find(const Actions& actions) {
  for (const auto& action : actions) {
    if (const auto* found = std::get_if<T>(&action)) return found;
  }
  return nullptr;
}

template <class T>
bool has(const Actions& actions) {
  return find<T>(actions) != nullptr;
}

/// Where in the list an action stands; the list's length if it does not.
template <class T>
std::size_t place(const Actions& actions) {
  std::size_t i = 0;
  while (i < actions.size() && !std::holds_alternative<T>(actions[i])) ++i;
  return i;
}

class PrimaryMachineTest : public testing::Test {
 protected:
  Actions on(const PrimaryEvent& event) { return machine_.on(event); }
  void protect() {
    on(PeerReady{});
    ASSERT_EQ(machine_.phase(), Phase::protecting);
  }
  /// The VM's next checkpoint comes in, whole. Returns what its last byte causes.
  Actions checkpoint(Mode next = Mode::periodic) {
    on(VmRequest{});
    on(VmSend{next});
    return on(VmCheckpoint{});
  }
  void lose_peer() {
    on(PeerLost{kLost});
    ASSERT_EQ(machine_.phase(), Phase::deciding);
  }

  PrimaryMachine machine_{{.generation = 3}};
};

TEST_F(PrimaryMachineTest, R2_OutputIsHeldFromTheMomentTheVmLeavesSynchronisation) {
  const auto actions = on(PeerReady{});
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<HoldOutput>(actions[0])) << "before the VM runs on";
  EXPECT_TRUE(std::holds_alternative<AnswerReady>(actions[1]));
}

TEST_F(PrimaryMachineTest, R2_OutputOfAnEpochIsReleasedOnlyAfterTheNextCheckpointIsCommitted) {
  protect();
  EXPECT_FALSE(has<ReleaseThrough>(checkpoint())) << "received is not committed";
  const auto first = on(PeerCommitted{1});
  ASSERT_TRUE(has<ReleaseThrough>(first));
  EXPECT_EQ(find<ReleaseThrough>(first)->epoch, 0u);
  checkpoint();
  EXPECT_EQ(find<ReleaseThrough>(on(PeerCommitted{2}))->epoch, 1u);
}

TEST_F(PrimaryMachineTest, R2_NothingIsReleasedBecauseThePeerHasLoaded) {
  protect();
  checkpoint();
  on(PeerCommitted{1});
  EXPECT_TRUE(on(PeerLoaded{1}).empty());
}

TEST_F(PrimaryMachineTest, R3_AnEpochIsClosedWhenTheVmHasStoppedAndBeforeItRunsAgain) {
  protect();
  EXPECT_FALSE(has<CloseEpoch>(on(VmRequest{}))) << "it still runs";
  const auto stopped = on(VmSend{Mode::periodic});
  ASSERT_TRUE(has<CloseEpoch>(stopped));
  EXPECT_EQ(find<CloseEpoch>(stopped)->epoch, 0u);
  EXPECT_TRUE(has<AnswerCheckpoint>(on(VmCheckpoint{})));
}

TEST_F(PrimaryMachineTest, AModeBeginsWithACheckpoint) {
  protect();
  on(VmRequest{});
  EXPECT_EQ(machine_.mode(), Mode::periodic);
  const auto stopped = on(VmSend{Mode::colo});
  EXPECT_LT(place<CloseEpoch>(stopped), place<BeginEpoch>(stopped));
  EXPECT_EQ(find<BeginEpoch>(stopped)->epoch, 1u);
  EXPECT_EQ(find<BeginEpoch>(stopped)->mode, Mode::colo);
  EXPECT_EQ(find<Ship>(on(VmCheckpoint{}))->mode, Mode::colo) << "the peer's VM must run in it";
  EXPECT_EQ(machine_.mode(), Mode::colo);
}

TEST_F(PrimaryMachineTest, TheFirstEpochIsPeriodic) {
  protect();
  EXPECT_EQ(machine_.mode(), Mode::periodic) << "the peer's VM stands still until checkpoint 1";
}

TEST_F(PrimaryMachineTest, R6_OnlyTheSecondaryOfThisEpochIsCompared) {
  protect();
  checkpoint(Mode::colo);
  checkpoint(Mode::colo);
  on(PeerCommitted{1});
  on(PeerCommitted{2});
  EXPECT_FALSE(has<SecondaryEntered>(on(PeerLoaded{1}))) << "it runs in epoch 1, we in epoch 2";
  EXPECT_EQ(find<SecondaryEntered>(on(PeerLoaded{2}))->epoch, 2u);
}

TEST_F(PrimaryMachineTest, R5_TheVmRunsOnBeforeThePeerHasTheCheckpoint) {
  protect();
  const auto actions = checkpoint();
  EXPECT_EQ(find<Ship>(actions)->checkpoint, 1u);
  EXPECT_LT(place<Ship>(actions), place<AnswerCheckpoint>(actions));
  EXPECT_LT(place<AnswerCheckpoint>(actions), actions.size());
  EXPECT_EQ(machine_.in_flight(), 1u);
}

TEST_F(PrimaryMachineTest, R5_TheThirdUncommittedCheckpointWaits) {
  protect();
  EXPECT_TRUE(has<AnswerCheckpoint>(checkpoint()));
  EXPECT_TRUE(has<AnswerCheckpoint>(checkpoint()));
  EXPECT_FALSE(has<AnswerCheckpoint>(checkpoint()));
  EXPECT_TRUE(machine_.answer_held());
  EXPECT_TRUE(has<AnswerCheckpoint>(on(PeerCommitted{1})));
  EXPECT_FALSE(machine_.answer_held());
  EXPECT_FALSE(has<AnswerCheckpoint>(on(PeerCommitted{2}))) << "answered once only";
}

TEST_F(PrimaryMachineTest, ACommitOutOfOrderIsALostPeer) {
  for (const Checkpoint wrong : {0u, 2u, 3u}) {
    PrimaryMachine machine({.generation = 3});
    machine.on(PeerReady{});
    for (int i = 0; i < 2; ++i) {
      machine.on(VmRequest{});
      machine.on(VmSend{Mode::periodic});
      machine.on(VmCheckpoint{});
    }
    const auto actions = machine.on(PeerCommitted{wrong});
    EXPECT_EQ(machine.phase(), Phase::deciding) << wrong;
    EXPECT_FALSE(has<ReleaseThrough>(actions)) << wrong;
  }
}

TEST_F(PrimaryMachineTest, ACommitOfACheckpointThatIsNotWholeIsALostPeer) {
  protect();
  on(VmRequest{});
  on(VmSend{Mode::periodic});
  const auto actions = on(PeerCommitted{1});
  EXPECT_FALSE(has<ReleaseThrough>(actions));
  EXPECT_EQ(machine_.phase(), Phase::deciding);
}

TEST_F(PrimaryMachineTest, ALoadOfWhatIsNotCommittedIsALostPeer) {
  protect();
  checkpoint();
  on(PeerLoaded{1});
  EXPECT_EQ(machine_.phase(), Phase::deciding);
}

TEST_F(PrimaryMachineTest, R8_LosingThePeerIsNotPermission) {
  protect();
  checkpoint();
  const auto actions = on(PeerLost{kLost});
  EXPECT_TRUE(has<CloseLanes>(actions));
  ASSERT_TRUE(has<Claim>(actions));
  EXPECT_EQ(find<Claim>(actions)->generation, 3u);
  EXPECT_EQ(find<Claim>(actions)->delay, 0ms);
  EXPECT_FALSE(has<RunAlone>(actions));
  EXPECT_FALSE(has<OpenGate>(actions));
}

TEST_F(PrimaryMachineTest, R8_NobodyGoesAloneWithoutTheArbitersWord) {
  const std::vector<PrimaryEvent> causes{PeerLost{kLost}, VmStreamEnded{kLost}, Unprotect{}};
  for (const auto& cause : causes) {
    PrimaryMachine machine({.generation = 3});
    machine.on(PeerReady{});
    auto actions = machine.on(cause);
    EXPECT_FALSE(has<RunAlone>(actions)) << cause.index();
    for (int i = 0; i < 3; ++i) {
      actions = machine.on(ArbiterSilent{{Errc::io, "no answer"}});
      EXPECT_FALSE(has<RunAlone>(actions));
      ASSERT_TRUE(has<Claim>(actions)) << "it asks again";
      EXPECT_GT(find<Claim>(actions)->delay, 0ms) << "after a while";
    }
    EXPECT_TRUE(has<RunAlone>(machine.on(Granted{4})));
    EXPECT_EQ(machine.generation(), 4u);
  }
}

TEST_F(PrimaryMachineTest, R8_TheGateOpensOnlyOnceTheVmRunsAlone) {
  protect();
  lose_peer();
  EXPECT_FALSE(has<OpenGate>(on(Granted{4})));
  const auto actions = on(VmRunning{});
  EXPECT_LT(place<OpenGate>(actions), place<FinishPrimary>(actions));
  EXPECT_EQ(find<FinishPrimary>(actions)->outcome, Outcome::solo);
}

TEST_F(PrimaryMachineTest, R8_ADeniedPrimaryKillsItsVmAndLetsNothingOut) {
  protect();
  checkpoint();
  lose_peer();
  const auto actions = on(Denied{4, "beta"});
  EXPECT_TRUE(has<KillVm>(actions));
  EXPECT_FALSE(has<OpenGate>(actions));
  EXPECT_FALSE(has<ReleaseThrough>(actions));
  EXPECT_EQ(find<FinishPrimary>(actions)->outcome, Outcome::superseded);
  EXPECT_THAT(find<FinishPrimary>(actions)->reason.message, testing::HasSubstr("beta"));
}

TEST_F(PrimaryMachineTest, R8_WhileTheArbiterIsAskedNothingIsReleasedAndTheVmIsNotAnswered) {
  protect();
  checkpoint();
  lose_peer();
  const std::vector<PrimaryEvent> late{PeerCommitted{1}, PeerLoaded{1},          PeerReady{},
                                       VmRequest{},      VmSend{Mode::periodic}, VmCheckpoint{},
                                       VmRunning{}};
  for (const auto& event : late) EXPECT_TRUE(on(event).empty()) << event.index();
}

TEST_F(PrimaryMachineTest, R8_TheArbiterIsAskedOnceAtATime) {
  protect();
  lose_peer();
  EXPECT_FALSE(has<Claim>(on(PeerLost{kLost})));
  EXPECT_FALSE(has<Claim>(on(VmStreamEnded{kLost})));
  EXPECT_FALSE(has<Claim>(on(VmShutdown{})));
}

TEST_F(PrimaryMachineTest, AVmThatDiesHandsOverToThePeer) {
  protect();
  const auto actions = on(VmLost{kLost});
  ASSERT_TRUE(has<TellPeer>(actions));
  EXPECT_EQ(find<TellPeer>(actions)->type, wire::FrameType::take_over);
  EXPECT_EQ(find<FinishPrimary>(actions)->outcome, Outcome::vm_lost);
}

TEST_F(PrimaryMachineTest, AVmThatDiesBeforeItIsSynchronisedIsNotHandedOver) {
  const auto actions = on(VmLost{kLost});
  ASSERT_TRUE(has<TellPeer>(actions));
  EXPECT_EQ(find<TellPeer>(actions)->type, wire::FrameType::end);
}

TEST_F(PrimaryMachineTest, AGuestThatPowersOffEndsThePairOnBothSidesWithTheArbitersWord) {
  protect();
  const auto asked = on(VmShutdown{});
  EXPECT_TRUE(has<Claim>(asked));
  EXPECT_FALSE(has<TellPeer>(asked));
  EXPECT_TRUE(on(VmLost{kLost}).empty()) << "the end of QEMU that follows is not a failure";
  const auto actions = on(Granted{4});
  EXPECT_EQ(find<TellPeer>(actions)->type, wire::FrameType::end);
  EXPECT_FALSE(has<RunAlone>(actions));
  EXPECT_EQ(find<FinishPrimary>(actions)->outcome, Outcome::guest_shutdown);
}

TEST_F(PrimaryMachineTest, AnUnprotectedVmTellsThePeerAndRunsOn) {
  protect();
  const auto asked = on(Unprotect{});
  EXPECT_FALSE(has<CloseLanes>(asked)) << "the peer is told first";
  const auto granted = on(Granted{4});
  EXPECT_LT(place<TellPeer>(granted), place<CloseLanes>(granted));
  EXPECT_LT(place<CloseLanes>(granted), place<RunAlone>(granted));
  EXPECT_EQ(find<FinishPrimary>(on(VmRunning{}))->outcome, Outcome::unprotected);
}

TEST_F(PrimaryMachineTest, ASwitchOverTakesAFreshCheckpointAndNeverRunsHereAgain) {
  protect();
  EXPECT_TRUE(has<TriggerCheckpoint>(on(SwitchOver{})));
  EXPECT_TRUE(on(SwitchOver{}).empty()) << "asked twice is asked once";
  EXPECT_FALSE(has<AnswerCheckpoint>(checkpoint()));
  const auto actions = on(PeerCommitted{1});
  EXPECT_FALSE(has<AnswerCheckpoint>(actions));
  EXPECT_TRUE(has<ReleaseThrough>(actions));
  EXPECT_EQ(find<TellPeer>(actions)->type, wire::FrameType::take_over);
  EXPECT_EQ(machine_.phase(), Phase::handing_over);
}

TEST_F(PrimaryMachineTest, ASwitchOverWaitsUntilEverythingIsCommitted) {
  protect();
  checkpoint();
  on(SwitchOver{});
  checkpoint();
  EXPECT_FALSE(has<TellPeer>(on(PeerCommitted{1})));
  EXPECT_TRUE(has<TellPeer>(on(PeerCommitted{2})));
}

TEST_F(PrimaryMachineTest, ASwitchOverWhosePeerIsLostGoesOnHereIfTheArbiterAllows) {
  protect();
  on(SwitchOver{});
  checkpoint();
  on(PeerCommitted{1});
  EXPECT_TRUE(has<Claim>(on(PeerLost{kLost})));
  EXPECT_TRUE(has<RunAlone>(on(Granted{4})));
}

TEST_F(PrimaryMachineTest, ASwitchOverBeforeSynchronisationIsNothing) {
  EXPECT_TRUE(on(SwitchOver{}).empty());
}

TEST_F(PrimaryMachineTest, AfterTheEndNothingHappens) {
  protect();
  on(VmLost{kLost});
  const std::vector<PrimaryEvent> late{PeerLost{kLost},  Granted{4},    VmRunning{},
                                       PeerCommitted{1}, VmLost{kLost}, Unprotect{}};
  for (const auto& event : late) EXPECT_TRUE(on(event).empty()) << event.index();
}

}  // namespace
}  // namespace tandem::session
