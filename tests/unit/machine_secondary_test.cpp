// The secondary's decisions, one rule at a time. R1 to R9 are the rules of docs/architecture.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/session/secondary_machine.hpp"

namespace tandem::session {
namespace {

using namespace std::chrono_literals;
using Phase = SecondaryMachine::Phase;
using Outcome = FinishSecondary::Outcome;
using Actions = std::vector<SecondaryAction>;

const Error kSilent{Errc::timed_out, "alpha has been silent"};
const Error kClosed{Errc::closed, "the lane is closed"};

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

bool tells(const Actions& actions, wire::FrameType type, Checkpoint number) {
  return std::ranges::any_of(actions, [&](const auto& action) {
    const auto* told = std::get_if<TellPeer>(&action);
    return told != nullptr && told->type == type && told->number == number;
  });
}

class SecondaryMachineTest : public testing::Test {
 protected:
  Actions on(const SecondaryEvent& event) { return machine_.on(event); }
  /// The VM is in COLO and waits, stopped, for its first checkpoint.
  void protect() {
    on(SvmReady{});
    on(SvmReply{});
    ASSERT_EQ(machine_.phase(), Phase::protecting);
  }
  /// The VM loads the checkpoint that was fed to it, and stops again.
  Actions load() {
    on(SvmReceived{});
    on(SvmLoaded{});
    return on(SvmReply{});
  }

  /// The VM runs from checkpoint 1, in colo mode.
  void run_in_colo() {
    protect();
    on(CheckpointVerified{1, Mode::colo});
    on(SvmReceived{});
    on(SvmLoaded{});
    ASSERT_EQ(machine_.mode(), Mode::colo);
  }

  SecondaryMachine machine_{{.generation = 3}};
};

TEST_F(SecondaryMachineTest, TheSecondaryVmIsStoppedAsSoonAsItIsInColo) {
  const auto actions = on(SvmReady{});
  EXPECT_TRUE(has<FeedRequest>(actions));
  EXPECT_TRUE(tells(actions, wire::FrameType::ready, 0));
}

TEST_F(SecondaryMachineTest, R1_AVerifiedCheckpointIsAcknowledgedAndFed) {
  protect();
  const auto actions = on(CheckpointVerified{1});
  EXPECT_TRUE(tells(actions, wire::FrameType::committed, 1));
  EXPECT_EQ(find<Feed>(actions)->checkpoint, 1u);
}

TEST_F(SecondaryMachineTest, R1_AcknowledgedBeforeLoadedSoThatThePrimaryDoesNotWait) {
  protect();
  on(CheckpointVerified{1});
  const auto second = on(CheckpointVerified{2});
  EXPECT_TRUE(tells(second, wire::FrameType::committed, 2));
  EXPECT_FALSE(has<Feed>(second)) << "the VM is still at the first";
  EXPECT_EQ(machine_.loaded(), 0u);
  EXPECT_EQ(find<Feed>(load())->checkpoint, 2u);
}

TEST_F(SecondaryMachineTest, R1_ACheckpointOutOfOrderIsNotAcknowledged) {
  for (const Checkpoint wrong : {Checkpoint{0}, Checkpoint{2}, ~Checkpoint{0}}) {
    SecondaryMachine machine({.generation = 3});
    machine.on(SvmReady{});
    machine.on(SvmReply{});
    const auto actions = machine.on(CheckpointVerified{wrong});
    EXPECT_FALSE(has<TellPeer>(actions)) << wrong;
    EXPECT_FALSE(has<Feed>(actions)) << wrong;
    EXPECT_TRUE(has<Claim>(actions)) << wrong;
  }
}

TEST_F(SecondaryMachineTest, R1_NothingIsCommittedAfterThePeerWasGivenUp) {
  protect();
  on(PeerLost{kSilent});
  EXPECT_TRUE(on(CheckpointVerified{1}).empty());
  EXPECT_EQ(machine_.committed(), 0u);
}

TEST_F(SecondaryMachineTest, TheSecondaryVmStopsAgainRightAfterEachLoad) {
  protect();
  on(CheckpointVerified{1});
  EXPECT_TRUE(has<FeedRequest>(on(SvmReceived{})));
  EXPECT_TRUE(tells(on(SvmLoaded{}), wire::FrameType::loaded, 1));
  const auto stopped = on(SvmReply{});
  EXPECT_TRUE(has<EndEpoch>(stopped));
  EXPECT_FALSE(has<Feed>(stopped)) << "there is nothing to load";
}

TEST_F(SecondaryMachineTest, InColoModeTheSecondaryVmRunsOnAfterItsLoad) {
  protect();
  EXPECT_EQ(find<Feed>(on(CheckpointVerified{1, Mode::colo}))->mode, Mode::colo);
  EXPECT_FALSE(has<FeedRequest>(on(SvmReceived{})));
  const auto actions = on(SvmLoaded{});
  EXPECT_EQ(find<BeginSecondaryEpoch>(actions)->epoch, 1u);
  EXPECT_FALSE(has<FeedRequest>(actions));
  EXPECT_EQ(machine_.mode(), Mode::colo);
}

TEST_F(SecondaryMachineTest, R4_ARunningVmTakesItsInputBeforeItIsStoppedForTheNextCheckpoint) {
  run_in_colo();
  const auto actions = on(CheckpointVerified{2, Mode::colo});
  EXPECT_TRUE(tells(actions, wire::FrameType::committed, 2));
  ASSERT_TRUE(has<QuietInput>(actions));
  EXPECT_FALSE(find<QuietInput>(actions)->rest) << "what was not fed yet is in the checkpoint";
  EXPECT_FALSE(has<FeedRequest>(actions));
  EXPECT_TRUE(has<FeedRequest>(on(InputQuiet{})));
  const auto stopped = on(SvmReply{});
  EXPECT_TRUE(has<EndEpoch>(stopped)) << "R3";
  EXPECT_EQ(find<Feed>(stopped)->checkpoint, 2u);
}

TEST_F(SecondaryMachineTest, ACheckpointThatIsCommittedDuringALoadStopsTheVmRightAfterIt) {
  protect();
  on(CheckpointVerified{1, Mode::colo});
  on(SvmReceived{});
  EXPECT_FALSE(has<QuietInput>(on(CheckpointVerified{2, Mode::colo})));
  const auto loaded = on(SvmLoaded{});
  EXPECT_TRUE(has<BeginSecondaryEpoch>(loaded));
  EXPECT_TRUE(has<QuietInput>(loaded));
}

TEST_F(SecondaryMachineTest, PeriodicModeStopsTheVmThatRan) {
  run_in_colo();
  on(CheckpointVerified{2, Mode::periodic});
  on(InputQuiet{});
  on(SvmReply{});
  EXPECT_TRUE(has<FeedRequest>(on(SvmReceived{})));
  EXPECT_FALSE(has<BeginSecondaryEpoch>(on(SvmLoaded{})));
  EXPECT_EQ(machine_.mode(), Mode::periodic);
}

TEST_F(SecondaryMachineTest, R7_ARunningVmTakesOverFromWhereItIs) {
  run_in_colo();
  on(PeerLost{kSilent});
  const auto granted = on(Granted{4});
  ASSERT_TRUE(has<QuietInput>(granted));
  EXPECT_TRUE(find<QuietInput>(granted)->rest) << "the clients' last packets are not to be lost";
  EXPECT_FALSE(has<Promote>(granted));
  const auto quiet = on(InputQuiet{});
  EXPECT_FALSE(has<FeedRequest>(quiet));
  EXPECT_EQ(find<Promote>(quiet)->checkpoint, 1u);
}

TEST_F(SecondaryMachineTest, R7_ARunningVmFirstLoadsWhatIsCommitted) {
  run_in_colo();
  on(CheckpointVerified{2, Mode::colo});
  on(PeerLost{kSilent});
  EXPECT_FALSE(has<Promote>(on(Granted{4})));
  EXPECT_TRUE(has<FeedRequest>(on(InputQuiet{})));
  on(SvmReply{});
  on(SvmReceived{});
  const auto loaded = on(SvmLoaded{});
  EXPECT_TRUE(has<BeginSecondaryEpoch>(loaded));
  EXPECT_TRUE(find<QuietInput>(loaded)->rest);
  EXPECT_EQ(find<Promote>(on(InputQuiet{}))->checkpoint, 2u);
}

TEST_F(SecondaryMachineTest, R8_LosingThePeerIsNotPermission) {
  protect();
  const auto actions = on(PeerLost{kSilent});
  EXPECT_TRUE(has<CloseLanes>(actions));
  EXPECT_FALSE(has<Promote>(actions));
  ASSERT_TRUE(has<Claim>(actions));
  EXPECT_EQ(find<Claim>(actions)->generation, 3u);
}

TEST_F(SecondaryMachineTest, R8_NobodyGoesAloneWithoutTheArbitersWord) {
  protect();
  on(PeerLost{kSilent});
  for (int i = 0; i < 3; ++i) {
    const auto actions = on(ArbiterSilent{{Errc::io, "no answer"}});
    EXPECT_FALSE(has<Promote>(actions));
    ASSERT_TRUE(has<Claim>(actions));
    EXPECT_GT(find<Claim>(actions)->delay, 0ms);
  }
  const auto actions = on(Granted{4});
  EXPECT_TRUE(has<Promote>(actions));
  EXPECT_EQ(machine_.generation(), 4u);
}

TEST_F(SecondaryMachineTest, R8_ADeniedSecondaryIsDiscarded) {
  protect();
  on(PeerLost{kSilent});
  const auto actions = on(Denied{4, "alpha"});
  EXPECT_TRUE(has<KillVm>(actions));
  EXPECT_FALSE(has<Promote>(actions));
  EXPECT_EQ(find<FinishSecondary>(actions)->outcome, Outcome::discarded);
  EXPECT_THAT(find<FinishSecondary>(actions)->reason.message, testing::HasSubstr("alpha"));
}

TEST_F(SecondaryMachineTest, APrimaryThatFellSilentIsNotWaitedForAndOneThatClosedIs) {
  for (const auto& [error, waits] : {std::pair{kSilent, false}, std::pair{kClosed, true}}) {
    SecondaryMachine machine({.generation = 3});
    machine.on(SvmReady{});
    machine.on(SvmReply{});
    const auto actions = machine.on(PeerLost{error});
    ASSERT_TRUE(has<Claim>(actions));
    EXPECT_EQ(find<Claim>(actions)->delay > 0ms, waits) << error.message;
  }
}

TEST_F(SecondaryMachineTest, APrimaryThatHandsOverIsNotWaitedForAndItsLanesStayOpenUntilTheWord) {
  protect();
  const auto asked = on(PeerTakeOver{"vm-lost"});
  EXPECT_EQ(find<Claim>(asked)->delay, 0ms);
  EXPECT_FALSE(has<CloseLanes>(asked)) << "their end would look like a loss";
  EXPECT_TRUE(has<CloseLanes>(on(Granted{4})));
}

TEST_F(SecondaryMachineTest, R7_EveryCommittedCheckpointIsLoadedBeforeTheVmGoesOn) {
  protect();
  on(CheckpointVerified{1});
  on(CheckpointVerified{2});
  on(CheckpointVerified{3});
  on(PeerLost{kSilent});
  EXPECT_FALSE(has<Promote>(on(Granted{4})));
  EXPECT_EQ(find<Feed>(load())->checkpoint, 2u);
  EXPECT_EQ(find<Feed>(load())->checkpoint, 3u);
  const auto actions = load();
  ASSERT_TRUE(has<Promote>(actions));
  EXPECT_EQ(find<Promote>(actions)->checkpoint, 3u);
}

TEST_F(SecondaryMachineTest, R7_WithNothingNewTheVmGoesOnFromWhereItIs) {
  protect();
  on(PeerLost{kSilent});
  EXPECT_EQ(find<Promote>(on(Granted{4}))->checkpoint, 0u);
}

TEST_F(SecondaryMachineTest, R7_APromotionWaitsUntilTheVmHasStopped) {
  on(SvmReady{});
  on(PeerLost{kSilent});
  EXPECT_FALSE(has<Promote>(on(Granted{4}))) << "its REPLY is still to come";
  EXPECT_TRUE(has<Promote>(on(SvmReply{})));
}

TEST_F(SecondaryMachineTest, LoadingGoesOnWhileTheArbiterIsAsked) {
  protect();
  on(CheckpointVerified{1});
  on(CheckpointVerified{2});
  on(PeerLost{kSilent});
  EXPECT_EQ(find<Feed>(load())->checkpoint, 2u);
  EXPECT_FALSE(has<Promote>(load()));
  EXPECT_EQ(find<Promote>(on(Granted{4}))->checkpoint, 2u);
}

TEST_F(SecondaryMachineTest, APromotedVmIsAnnouncedAndThePairHasEnded) {
  protect();
  on(PeerLost{kSilent});
  on(Granted{4});
  EXPECT_TRUE(on(SvmStreamEnded{kClosed}).empty()) << "we have closed it ourselves";
  const auto actions = on(VmRunning{});
  EXPECT_TRUE(has<Announce>(actions));
  EXPECT_EQ(find<FinishSecondary>(actions)->outcome, Outcome::promoted);
}

TEST_F(SecondaryMachineTest, AVmThatCannotLoadInTimeIsNotRunFromAnOlderCheckpoint) {
  protect();
  on(CheckpointVerified{1});
  on(PeerLost{kSilent});
  EXPECT_TRUE(has<StartLoadTimer>(on(Granted{4})));
  const auto actions = on(LoadTimeout{});
  EXPECT_FALSE(has<Promote>(actions));
  EXPECT_EQ(find<FinishSecondary>(actions)->outcome, Outcome::failed);
  EXPECT_THAT(find<FinishSecondary>(actions)->reason.message, testing::HasSubstr("checkpoint 1"));
}

TEST_F(SecondaryMachineTest, AVmThatDiesIsReportedToThePeer) {
  protect();
  const auto actions = on(VmLost{kClosed});
  ASSERT_TRUE(has<TellPeer>(actions));
  EXPECT_EQ(find<TellPeer>(actions)->type, wire::FrameType::failed);
  EXPECT_EQ(find<FinishSecondary>(actions)->outcome, Outcome::discarded);
}

TEST_F(SecondaryMachineTest, AVmThatDiesAfterTheGrantHasFailed) {
  protect();
  on(PeerLost{kSilent});
  on(Granted{4});
  EXPECT_EQ(find<FinishSecondary>(on(VmLost{kClosed}))->outcome, Outcome::failed);
}

TEST_F(SecondaryMachineTest, AnswersOutOfTurnEndTheVm) {
  const std::vector<SecondaryEvent> wrong{SvmReady{}, SvmReceived{}, SvmLoaded{}, SvmReply{}};
  for (const auto& event : wrong) {
    SecondaryMachine machine({.generation = 3});
    machine.on(SvmReady{});
    machine.on(SvmReply{});
    const auto actions = machine.on(event);
    EXPECT_TRUE(has<KillVm>(actions)) << event.index();
    EXPECT_EQ(machine.phase(), Phase::ended);
  }
}

TEST_F(SecondaryMachineTest, BeforeSynchronisationALossIsTheEnd) {
  const std::vector<SecondaryEvent> causes{PeerLost{kSilent}, PeerTakeOver{"vm-lost"},
                                           PeerEnd{"unprotect"}};
  for (const auto& cause : causes) {
    SecondaryMachine machine({.generation = 3});
    const auto actions = machine.on(cause);
    EXPECT_TRUE(has<KillVm>(actions)) << cause.index();
    EXPECT_FALSE(has<Claim>(actions)) << "half a VM is nothing to claim";
    EXPECT_EQ(find<FinishSecondary>(actions)->outcome, Outcome::discarded);
  }
}

TEST_F(SecondaryMachineTest, WhenProtectionEndsTheVmIsDiscarded) {
  protect();
  const auto actions = on(PeerEnd{"unprotect"});
  EXPECT_TRUE(has<KillVm>(actions));
  EXPECT_FALSE(has<Claim>(actions));
  EXPECT_EQ(find<FinishSecondary>(actions)->outcome, Outcome::discarded);
}

TEST_F(SecondaryMachineTest, AfterTheEndNothingHappens) {
  on(PeerEnd{"unprotect"});
  const std::vector<SecondaryEvent> late{
      Granted{4}, VmRunning{}, SvmReady{}, CheckpointVerified{1}, VmLost{kClosed}, LoadTimeout{}};
  for (const auto& event : late) EXPECT_TRUE(on(event).empty()) << event.index();
}

}  // namespace
}  // namespace tandem::session
