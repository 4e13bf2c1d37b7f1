// The agent's core, event by event.
#include "worker/agent/agent_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1000);

MemberKey Key(int64_t generation) { return MemberKey{"jobs/demo-1", Generation(generation)}; }

// The fixture keeps the clock and what was asked for.
class AgentCoreTest : public ::testing::Test {
 protected:
  AgentCoreTest() : core_(policy_) { Step(LinkRestored{}); }

  void Step(const AgentEvent& event) {
    for (AgentAction& action : core_.Step(event, now_)) actions_.push_back(std::move(action));
  }
  // Lets time pass, stopping at each wake-up that the core asks for.
  void Wait(absl::Duration duration) {
    const absl::Time until = now_ + duration;
    while (core_.NextWakeup() <= until) {
      now_ = std::max(now_, core_.NextWakeup());
      Step(TimePassed{});
    }
    now_ = until;
  }
  // The actions of one kind since the last call for it, in order.
  template <typename Action>
  std::vector<Action> Taken() {
    std::vector<Action> taken;
    std::vector<AgentAction> others;
    for (AgentAction& action : actions_) {
      if (auto* wanted = std::get_if<Action>(&action); wanted != nullptr) {
        taken.push_back(std::move(*wanted));
      } else {
        others.push_back(std::move(action));
      }
    }
    actions_ = std::move(others);
    return taken;
  }
  std::vector<ExitReport> TakenExits() {
    std::vector<ExitReport> exits;
    for (SendReport& send : Taken<SendReport>()) {
      if (auto* exit = std::get_if<ExitReport>(&send.report.content); exit != nullptr) {
        exits.push_back(std::move(*exit));
      }
    }
    return exits;
  }

  static MemberOrder Alone(int64_t generation, std::vector<int> ranks = {0}) {
    return MemberOrder{Key(generation), std::move(ranks), 1, 0, ""};
  }
  static MemberOrder OfGang(int64_t generation, int index) {
    return MemberOrder{Key(generation), {index}, 2, index, ""};
  }
  void Train(const MemberOrder& order) {
    Step(StartReceived{order});
    for (const int rank : order.ranks) {
      Step(RankAdvanced{order.key, rank, MemberPhase::kTraining, 1});
    }
  }
  void EndRank(int64_t generation, int rank, MemberOutcome outcome, const std::string& message) {
    Step(RankFinished{Key(generation), rank, outcome, message, 7, ""});
    Step(RankEnded{Key(generation), rank, false, "ended with status 0"});
  }

  void KillLauncher(int64_t generation) {
    Step(RelayEnded{Key(generation), RelayPart::kLauncher, false, "was killed by SIGKILL"});
  }

  AgentPolicy policy_;
  AgentCore core_;
  absl::Time now_ = kStart;
  std::vector<AgentAction> actions_;
};

TEST_F(AgentCoreTest, StartsAMemberOnceHoweverOftenItIsOrdered) {
  Step(StartReceived{Alone(1)});
  Step(StartReceived{Alone(1)});
  EXPECT_THAT(Taken<SpawnMember>(), SizeIs(1));
  ASSERT_THAT(core_.Running(), SizeIs(1));
  EXPECT_EQ(core_.Running()[0].phase, MemberPhase::kStarting);
}

TEST_F(AgentCoreTest, ReportsASuccessWithItsHashAndStep) {
  Train(Alone(1));
  Step(RankFinished{Key(1), 0, MemberOutcome::kSucceeded, "done", 100, "abc"});
  EXPECT_THAT(TakenExits(), IsEmpty()) << "the process still runs";
  Step(RankEnded{Key(1), 0, false, "ended with status 0"});
  EXPECT_THAT(
      TakenExits(),
      ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kSucceeded),
                        Field(&ExitReport::weights_hash, "abc"), Field(&ExitReport::step, 100))));
  EXPECT_THAT(Taken<ReleaseMember>(), SizeIs(1));
  EXPECT_THAT(core_.Running(), IsEmpty());
}

TEST_F(AgentCoreTest, OneDeadRankTakesTheOthersAlongAndOneReportNamesTheSignal) {
  Train(Alone(1, {0, 1, 2}));
  Step(RankEnded{Key(1), 1, false, "was killed by SIGSEGV"});
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(), IsEmpty());
  Step(RankEnded{Key(1), 2, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(), IsEmpty()) << "their relay still runs";
  KillLauncher(1);
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kFailed),
                                Field(&ExitReport::message, "rank 1 was killed by SIGSEGV"),
                                Field(&ExitReport::rank, 1))));
}

TEST_F(AgentCoreTest, AFailureThatARankReportsNamesIt) {
  Train(Alone(1, {4, 5}));
  EndRank(1, 5, MemberOutcome::kFailed, "no space is left");
  Step(RankEnded{Key(1), 4, true, "was killed by SIGKILL"});
  KillLauncher(1);
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kFailed),
                                Field(&ExitReport::message, "rank 5: no space is left"),
                                Field(&ExitReport::rank, 5))));
}

TEST_F(AgentCoreTest, ARankKilledFromOutsideFails) {
  Train(Alone(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(), ElementsAre(Field(&ExitReport::outcome, MemberOutcome::kFailed)));
}

TEST_F(AgentCoreTest, WhatARankSaysBeatsWhatItsEndLooksLike) {
  Train(Alone(1));
  Step(RankFinished{Key(1), 0, MemberOutcome::kUserError, "no such file", 0, ""});
  Step(RankEnded{Key(1), 0, false, "ended with status 2"});
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kUserError),
                                Field(&ExitReport::message, "no such file"))));
}

TEST_F(AgentCoreTest, ALocalCrashBeatsTheLostPeerThatItLooksLikeToTheOthers) {
  Train(Alone(1, {0, 1}));
  // Rank 1 noticed first that rank 0 is gone.
  EndRank(1, 1, MemberOutcome::kPeerLost, "an exchange failed");
  EXPECT_THAT(Taken<KillMember>(), IsEmpty()) << "the cause may still come";
  Step(RankEnded{Key(1), 0, false, "was killed by SIGBUS"});
  KillLauncher(1);
  EXPECT_THAT(TakenExits(), ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kFailed),
                                              Field(&ExitReport::message, HasSubstr("SIGBUS")))));
}

TEST_F(AgentCoreTest, ALostPeerEndsTheMemberWithinTheGrace) {
  Train(Alone(1, {0, 1}));
  EndRank(1, 1, MemberOutcome::kPeerLost, "an exchange failed");
  Wait(policy_.peer_loss_grace);
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  KillLauncher(1);
  EXPECT_THAT(TakenExits(), ElementsAre(Field(&ExitReport::outcome, MemberOutcome::kPeerLost)));
}

TEST_F(AgentCoreTest, AnExitIsSentAgainUntilItIsAcknowledgedAndThroughLostLinks) {
  Train(Alone(1));
  EndRank(1, 0, MemberOutcome::kSucceeded, "");
  ASSERT_THAT(TakenExits(), SizeIs(1));
  Wait(policy_.resend_interval);
  EXPECT_THAT(TakenExits(), SizeIs(1));
  Step(LinkLost{});
  Wait(absl::Minutes(1));
  EXPECT_THAT(TakenExits(), IsEmpty());
  Step(LinkRestored{});
  ASSERT_THAT(core_.UnacknowledgedExits(), SizeIs(1));
  EXPECT_THAT(TakenExits(), SizeIs(1));
  Step(AcknowledgementReceived{{core_.UnacknowledgedExits()[0].id}});
  Wait(absl::Minutes(1));
  EXPECT_THAT(TakenExits(), IsEmpty());
  EXPECT_EQ(core_.NextWakeup(), absl::InfiniteFuture());
}

TEST_F(AgentCoreTest, CheckpointsAreSentAgainUntilTheyAreAcknowledged) {
  Train(Alone(1));
  Step(CheckpointWritten{Key(1), "payload"});
  const std::vector<SendReport> sent = Taken<SendReport>();
  ASSERT_THAT(sent, SizeIs(1));
  Wait(policy_.resend_interval);
  EXPECT_THAT(Taken<SendReport>(), SizeIs(1));
  Step(AcknowledgementReceived{{sent[0].report.id}});
  Wait(policy_.resend_interval);
  EXPECT_THAT(Taken<SendReport>(), IsEmpty());
}

TEST_F(AgentCoreTest, RanksTrainOnWhileTheLinkIsDown) {
  Train(Alone(1));
  Step(LinkLost{});
  for (int second = 0; second < 3600; ++second) {
    Wait(absl::Seconds(1));
    Step(RankAdvanced{Key(1), 0, MemberPhase::kTraining, second});
  }
  EXPECT_THAT(Taken<KillMember>(), IsEmpty());
  EXPECT_EQ(core_.Running().at(0).step, 3599);
}

// --- the fence ----------------------------------------------------------------------------------

TEST_F(AgentCoreTest, ALowerGenerationIsIgnored) {
  Train(Alone(3));
  Taken<SpawnMember>();
  Step(StartReceived{Alone(2)});
  EXPECT_THAT(Taken<SpawnMember>(), IsEmpty());
  EXPECT_THAT(Taken<KillMember>(), IsEmpty());
}

TEST_F(AgentCoreTest, AHigherGenerationStartsWhenTheLowerOneIsCompletelyGone) {
  Train(Alone(1, {0, 1}));
  Taken<SpawnMember>();
  Step(StartReceived{Alone(2)});
  EXPECT_THAT(Taken<KillMember>(), ElementsAre(Field(&KillMember::key, Key(1))));
  EXPECT_THAT(core_.Running(), SizeIs(2)) << "one ends, one waits";
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(Taken<SpawnMember>(), IsEmpty());
  Step(RankEnded{Key(1), 1, true, "was killed by SIGKILL"});
  EXPECT_THAT(Taken<SpawnMember>(), IsEmpty());
  KillLauncher(1);
  EXPECT_THAT(TakenExits(), ElementsAre(Field(&ExitReport::outcome, MemberOutcome::kKilled)));
  EXPECT_THAT(Taken<SpawnMember>(), SizeIs(1));
}

TEST_F(AgentCoreTest, AGenerationThatWasOvertakenWhileItWaitedIsReportedAsNeverStarted) {
  Train(Alone(1));
  Step(StartReceived{Alone(2)});
  Step(StartReceived{Alone(3)});
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::key, Key(2)),
                                Field(&ExitReport::outcome, MemberOutcome::kKilled))));
  Taken<SpawnMember>();
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  const std::vector<SpawnMember> spawned = Taken<SpawnMember>();
  ASSERT_THAT(spawned, SizeIs(1));
  EXPECT_EQ(spawned[0].order.key, Key(3));
}

TEST_F(AgentCoreTest, AMemberThatEndedDoesNotStartAgain) {
  Train(Alone(1));
  EndRank(1, 0, MemberOutcome::kSucceeded, "");
  Taken<SpawnMember>();
  Step(StartReceived{Alone(1)});
  EXPECT_THAT(Taken<SpawnMember>(), IsEmpty());
}

TEST_F(AgentCoreTest, AStopOfAnUnknownMemberIsAnsweredAndItsLateStartIgnored) {
  Step(StopReceived{Key(1), StopMode::kKill, "cancelled"});
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::key, Key(1)),
                                Field(&ExitReport::outcome, MemberOutcome::kKilled))));
  Step(StopReceived{Key(1), StopMode::kKill, "cancelled"});
  EXPECT_THAT(TakenExits(), IsEmpty()) << "the report is on its way already";
  Step(StartReceived{Alone(1)});
  EXPECT_THAT(Taken<SpawnMember>(), IsEmpty());
}

// --- stopping -----------------------------------------------------------------------------------

TEST_F(AgentCoreTest, AnOrderedKillIsKilledEvenWhenPeersVanishWithIt) {
  Train(Alone(1, {0, 1}));
  Step(StopReceived{Key(1), StopMode::kKill, "cancelled by its owner"});
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  EndRank(1, 0, MemberOutcome::kPeerLost, "an exchange failed");
  Step(RankEnded{Key(1), 1, true, "was killed by SIGKILL"});
  KillLauncher(1);
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kKilled),
                                Field(&ExitReport::message, "cancelled by its owner"))));
}

TEST_F(AgentCoreTest, SavesAndEnds) {
  Train(Alone(1));
  Step(StopReceived{Key(1), StopMode::kSave, "paused"});
  Step(StopReceived{Key(1), StopMode::kSave, "paused"});
  EXPECT_THAT(Taken<AskToSave>(), SizeIs(1));
  EndRank(1, 0, MemberOutcome::kSaved, "saved");
  EXPECT_THAT(TakenExits(), ElementsAre(Field(&ExitReport::outcome, MemberOutcome::kSaved)));
}

TEST_F(AgentCoreTest, ASaveThatTakesTooLongBecomesAKill) {
  policy_.silence_timeout = absl::InfiniteDuration();
  core_ = AgentCore(policy_);
  Step(LinkRestored{});
  Train(Alone(1));
  Step(StopReceived{Key(1), StopMode::kSave, "paused"});
  Wait(policy_.save_timeout - absl::Milliseconds(1));
  EXPECT_THAT(Taken<KillMember>(), IsEmpty());
  Wait(absl::Milliseconds(1));
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(), ElementsAre(Field(&ExitReport::outcome, MemberOutcome::kKilled)));
}

TEST_F(AgentCoreTest, AKillMakesHasteOfASave) {
  Train(Alone(1));
  Step(StopReceived{Key(1), StopMode::kSave, "paused"});
  Step(StopReceived{Key(1), StopMode::kKill, "cancelled"});
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
}

// --- time ---------------------------------------------------------------------------------------

TEST_F(AgentCoreTest, AMemberThatDoesNotStartInTimeFails) {
  Step(StartReceived{Alone(1)});
  Wait(policy_.start_timeout);
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kFailed),
                                Field(&ExitReport::message, HasSubstr("did not start within")))));
}

TEST_F(AgentCoreTest, ASilentRankFails) {
  Train(Alone(1));
  Wait(policy_.silence_timeout);
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(), ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kFailed),
                                              Field(&ExitReport::message, HasSubstr("silent")))));
}

TEST_F(AgentCoreTest, SilenceWhileTheHostSleptMeansNothing) {
  Train(Alone(1));
  now_ += absl::Hours(8);  // no wake-up in between: the lid was closed
  Step(TimePassed{});
  EXPECT_THAT(Taken<KillMember>(), IsEmpty());
  Wait(policy_.silence_timeout);
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
}

TEST_F(AgentCoreTest, ARankThatFinishedButDoesNotExitIsKilledAndKeepsItsOutcome) {
  Train(Alone(1));
  Step(RankFinished{Key(1), 0, MemberOutcome::kSucceeded, "", 9, "h"});
  Wait(policy_.exit_timeout);
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(), ElementsAre(Field(&ExitReport::outcome, MemberOutcome::kSucceeded)));
}

// --- relays -------------------------------------------------------------------------------------

TEST_F(AgentCoreTest, RunsTheDaemonThatAPeerAsksFor) {
  Step(StartReceived{OfGang(1, 1)});
  Step(DaemonRequested{DaemonRequestId(5), Key(1)});
  EXPECT_THAT(Taken<RunDaemon>(), ElementsAre(Field(&RunDaemon::request, DaemonRequestId(5))));
  Step(DaemonRequested{DaemonRequestId(6), Key(1)});
  EXPECT_THAT(Taken<RunDaemon>(), IsEmpty()) << "one daemon a generation";
  EXPECT_THAT(Taken<RefuseDaemon>(), SizeIs(1));
}

TEST_F(AgentCoreTest, ADaemonRequestThatIsFasterThanTheOrderWaitsForIt) {
  Step(DaemonRequested{DaemonRequestId(5), Key(1)});
  EXPECT_THAT(Taken<RunDaemon>(), IsEmpty());
  Step(StartReceived{OfGang(1, 1)});
  EXPECT_THAT(Taken<RunDaemon>(), SizeIs(1));
}

TEST_F(AgentCoreTest, ADaemonRequestWithoutAnOrderIsRefusedAtItsDeadline) {
  Step(DaemonRequested{DaemonRequestId(5), Key(1)});
  Wait(policy_.daemon_wait);
  const std::vector<RefuseDaemon> refused = Taken<RefuseDaemon>();
  ASSERT_THAT(refused, SizeIs(1));
  EXPECT_EQ(refused[0].why.code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(AgentCoreTest, ADaemonRequestOfAnOldGenerationIsRefusedAtOnce) {
  Step(StartReceived{OfGang(2, 1)});
  Step(DaemonRequested{DaemonRequestId(5), Key(1)});
  const std::vector<RefuseDaemon> refused = Taken<RefuseDaemon>();
  ASSERT_THAT(refused, SizeIs(1));
  EXPECT_EQ(refused[0].why.code(), absl::StatusCode::kAborted);
}

TEST_F(AgentCoreTest, AWaitingDaemonRequestIsRefusedWhenANewerGenerationComes) {
  Step(DaemonRequested{DaemonRequestId(5), Key(1)});
  Step(StartReceived{OfGang(2, 1)});
  const std::vector<RefuseDaemon> refused = Taken<RefuseDaemon>();
  ASSERT_THAT(refused, SizeIs(1));
  EXPECT_EQ(refused[0].why.code(), absl::StatusCode::kAborted);
}

TEST_F(AgentCoreTest, RelaysThatDoNotStartFailTheLead) {
  Step(StartReceived{OfGang(1, 0)});
  Step(RelayEnded{Key(1), RelayPart::kLauncher, false, "ended with status 1"});
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kFailed),
                                Field(&ExitReport::message, HasSubstr("mpirun ended")))));
}

TEST_F(AgentCoreTest, ARelayOfOneWorkerIsNamedWhenItDoesNotStart) {
  Step(StartReceived{Alone(1, {0, 1})});
  KillLauncher(1);
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  for (const int rank : {0, 1}) Step(RankEnded{Key(1), rank, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kFailed),
                                Field(&ExitReport::message, HasSubstr("weft-relay was killed")))));
}

TEST_F(AgentCoreTest, APeerThatCannotBeReachedIsALostPeerWhateverMpirunMakesOfIt) {
  Step(StartReceived{OfGang(1, 0)});
  Step(PeerUnreachable{Key(1), "worker b did not answer"});
  Step(RelayEnded{Key(1), RelayPart::kLauncher, false, "ended with status 255"});
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(),
              ElementsAre(AllOf(Field(&ExitReport::outcome, MemberOutcome::kPeerLost),
                                Field(&ExitReport::message, "worker b did not answer"))));
}

TEST_F(AgentCoreTest, RelaysLostInTrainingWakeTheRanksAndThenEndThem) {
  Train(OfGang(1, 0));
  Step(RelayEnded{Key(1), RelayPart::kLauncher, false, "was killed by SIGKILL"});
  EXPECT_THAT(Taken<AbortExchange>(), SizeIs(1));
  EXPECT_THAT(Taken<KillMember>(), IsEmpty());
  Wait(policy_.peer_loss_grace);
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(), ElementsAre(Field(&ExitReport::outcome, MemberOutcome::kPeerLost)));
}

TEST_F(AgentCoreTest, AfterASuccessTheRelaysMayStayAndTheReportDoesNotWaitForThem) {
  Train(OfGang(1, 0));
  EndRank(1, 0, MemberOutcome::kSucceeded, "");
  EXPECT_THAT(TakenExits(), SizeIs(1));
  EXPECT_THAT(Taken<KillMember>(), IsEmpty());
  EXPECT_THAT(Taken<ReleaseMember>(), IsEmpty());
  EXPECT_THAT(core_.Running(), IsEmpty());
  Step(RelayEnded{Key(1), RelayPart::kLauncher, true, "ended with status 0"});
  EXPECT_THAT(Taken<ReleaseMember>(), SizeIs(1));
}

TEST_F(AgentCoreTest, RelaysThatStayTooLongAreKilled) {
  Train(OfGang(1, 0));
  EndRank(1, 0, MemberOutcome::kSucceeded, "");
  Wait(policy_.relay_linger);
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
}

TEST_F(AgentCoreTest, ANextGenerationWaitsForTheRelaysOfTheLastOne) {
  Train(OfGang(1, 0));
  EndRank(1, 0, MemberOutcome::kSaved, "");
  Taken<SpawnMember>();
  Step(StartReceived{Alone(2)});
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  EXPECT_THAT(Taken<SpawnMember>(), IsEmpty());
  Step(RelayEnded{Key(1), RelayPart::kLauncher, false, "was killed by SIGKILL"});
  EXPECT_THAT(Taken<SpawnMember>(), SizeIs(1));
}

TEST_F(AgentCoreTest, AFollowerWhoseLeadNeverCameHasLostAPeer) {
  Step(StartReceived{OfGang(1, 1)});
  Wait(policy_.start_timeout);
  Step(RankEnded{Key(1), 1, true, "was killed by SIGKILL"});
  EXPECT_THAT(TakenExits(), ElementsAre(Field(&ExitReport::outcome, MemberOutcome::kPeerLost)));
}

// --- shutting down ------------------------------------------------------------------------------

TEST_F(AgentCoreTest, AShutdownSavesReportsAndWaitsForTheAcknowledgement) {
  Train(Alone(1));
  Step(ShutdownRequested{StopMode::kSave, now_ + absl::Seconds(30)});
  EXPECT_THAT(Taken<AskToSave>(), SizeIs(1));
  EndRank(1, 0, MemberOutcome::kSaved, "saved");
  EXPECT_THAT(Taken<Quit>(), IsEmpty());
  ASSERT_THAT(core_.UnacknowledgedExits(), SizeIs(1));
  Step(AcknowledgementReceived{{core_.UnacknowledgedExits()[0].id}});
  EXPECT_THAT(Taken<Quit>(), SizeIs(1));
}

TEST_F(AgentCoreTest, AShutdownKillsAtItsDeadlineAndDoesNotWaitForeverForAnAcknowledgement) {
  Train(Alone(1));
  Step(ShutdownRequested{StopMode::kSave, now_ + absl::Seconds(30)});
  Wait(absl::Seconds(30));
  EXPECT_THAT(Taken<KillMember>(), SizeIs(1));
  Step(RankEnded{Key(1), 0, true, "was killed by SIGKILL"});
  EXPECT_THAT(Taken<Quit>(), IsEmpty());
  Wait(policy_.farewell);
  EXPECT_THAT(Taken<Quit>(), SizeIs(1));
}

TEST_F(AgentCoreTest, AnIdleAgentQuitsAtOnce) {
  Step(ShutdownRequested{StopMode::kSave, now_ + absl::Seconds(30)});
  EXPECT_THAT(Taken<Quit>(), SizeIs(1));
}

TEST_F(AgentCoreTest, AShutdownIsToldBeforeWhatEndsByIt) {
  Train(Alone(1));
  Step(StartReceived{Alone(2)});  // waits for the first one's end
  EXPECT_FALSE(core_.leaving());
  actions_.clear();
  const ShutdownRequested shutdown{StopMode::kSave, now_ + absl::Seconds(30)};
  const std::vector<AgentAction> actions = core_.Step(shutdown, now_);
  EXPECT_TRUE(core_.leaving());
  ASSERT_THAT(actions, SizeIs(2));
  EXPECT_TRUE(std::holds_alternative<SendHeartbeat>(actions[0]));
  EXPECT_TRUE(std::holds_alternative<SendReport>(actions[1]));
  Step(LinkLost{});
  actions_.clear();
  Step(LinkRestored{});
  ASSERT_THAT(actions_, SizeIs(2));
  EXPECT_TRUE(std::holds_alternative<SendHeartbeat>(actions_[0])) << "perhaps nobody heard it";
}

TEST_F(AgentCoreTest, NothingStartsDuringAShutdown) {
  Train(Alone(1));
  Taken<SpawnMember>();
  Step(ShutdownRequested{StopMode::kSave, now_ + absl::Seconds(30)});
  Step(StartReceived{Alone(2)});
  EXPECT_THAT(Taken<SpawnMember>(), IsEmpty());
}

}  // namespace
}  // namespace weft::worker
