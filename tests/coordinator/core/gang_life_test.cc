// From placement to the end: failures, losses, drains, pauses, cancels, fences, repairs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/test_cluster.h"

namespace weft::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::weft::testing::StatusIs;

class GangLife : public ::testing::Test {
 protected:
  GangLife() {
    cluster_.Pass(cluster_.policy.gather_time);
    for (const char* name : {"a", "b", "c"}) cluster_.Join(name);
  }
  // A job that trains on a and b, or as many as asked.
  JobId Running(int32_t min_workers = 2, int32_t max_workers = 0) {
    const JobId job = cluster_.Submit(CpuJob("job", min_workers, max_workers));
    cluster_.BeatGang(job);
    EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
    return job;
  }
  // Everybody connected says that all is as it was, for a while.
  void KeepAlive(absl::Duration time) {
    for (const absl::Time end = cluster_.now + time; cluster_.now < end;) {
      cluster_.Pass(absl::Seconds(1));
      const std::map<WorkerName, Worker> workers = cluster_.state.workers;
      for (const auto& [name, worker] : workers) {
        if (worker.connection == WorkerConnection::kConnected) cluster_.Beat(name, worker.running);
      }
    }
  }
  TestCluster cluster_;
};

TEST_F(GangLife, AJobRunsWhenEveryMemberTrainsAndSucceedsWhenEveryMemberDid) {
  const JobId job = cluster_.Submit(CpuJob("job", 2));
  cluster_.Beat("a", {{job, Generation(1), MemberPhase::kTraining, StepIndex(1), 1}});
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
  cluster_.Beat("b", {{job, Generation(1), MemberPhase::kRestoring, StepIndex(), 1}});
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
  cluster_.Beat("b", {{job, Generation(1), MemberPhase::kTraining, StepIndex(2), 1}});
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  EXPECT_EQ(cluster_.job(job).step, StepIndex(2));
  cluster_.Exit(job, "a", MemberOutcome::kSucceeded);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  cluster_.Exit(job, "b", MemberOutcome::kSucceeded);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kSucceeded);
}

TEST_F(GangLife, ALostStartIsSentAgainAfterAHeartbeatThatLacksIt) {
  const JobId job = cluster_.Submit(CpuJob("job"));
  cluster_.Beat("a");
  const auto starts = cluster_.Sent<StartMember>();
  ASSERT_THAT(starts, SizeIs(1));
  EXPECT_EQ(starts[0].job, job);
  cluster_.BeatGang(job, MemberPhase::kStarting);
  EXPECT_THAT(cluster_.Sent<StartMember>(), IsEmpty());
}

TEST_F(GangLife, AFailedRankEndsTheGenerationEverywhereAndTheNextBeginsAfterABackOff) {
  const JobId job = Running();
  ASSERT_OK(cluster_.Publish(job, 10));
  cluster_.Exit(job, "a", MemberOutcome::kRankFailed, "segmentation fault");
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  const auto stops = cluster_.Sent<StopMember>();
  ASSERT_THAT(stops, SizeIs(1));
  EXPECT_EQ(stops[0].worker, "b");
  EXPECT_EQ(stops[0].mode, StopMode::kNow);
  EXPECT_EQ(cluster_.Why(job).rule, WaitRule::kStopping);
  cluster_.Exit(job, "b", MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.Why(job).rule, WaitRule::kBackOff);
  EXPECT_EQ(cluster_.Why(job).next_attempt, cluster_.now + absl::Seconds(1));
  EXPECT_THAT(cluster_.Why(job).summary, HasSubstr("segmentation fault"));
  cluster_.Pass(absl::Seconds(1));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
  EXPECT_EQ(cluster_.job(job).generation, Generation(2));
  const auto starts = cluster_.Sent<StartMember>();
  ASSERT_THAT(starts, SizeIs(2));
  ASSERT_TRUE(starts[0].restore.has_value());
  EXPECT_EQ(starts[0].restore->step, StepIndex(10));
}

TEST_F(GangLife, TheNextGenerationIsNotPlacedWhileARankOfTheLastMayLive) {
  const JobId job = Running(1);
  const WorkerName worker = cluster_.GangOf(job)[0];
  cluster_.On(DrainRequested{worker, ""});
  KeepAlive(absl::Seconds(5));
  EXPECT_EQ(cluster_.job(job).generation, Generation(1));
  cluster_.Exit(job, worker, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.job(job).generation, Generation(2));
}

TEST_F(GangLife, TheBackOffDoublesAndACheckpointResetsIt) {
  JobRequest request = CpuJob("job");
  request.max_retries = 10;
  const JobId job = cluster_.Submit(request);
  const auto fail = [&] {
    cluster_.ExitGang(job, MemberOutcome::kRankFailed);
    const absl::Duration wait = *cluster_.Why(job).next_attempt - cluster_.now;
    cluster_.Pass(wait);
    for (const char* name : {"a", "b", "c"}) {
      cluster_.Join(name, CpuWorker(), cluster_.incarnations[name]);
    }
    EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
    return wait;
  };
  EXPECT_EQ(fail(), absl::Seconds(1));
  EXPECT_EQ(fail(), absl::Seconds(2));
  EXPECT_EQ(fail(), absl::Seconds(4));
  ASSERT_OK(cluster_.Publish(job, 1));
  EXPECT_EQ(fail(), absl::Seconds(1));
}

TEST_F(GangLife, AWorkerOnWhichTheJobFailedIsTakenLast) {
  const JobId job = cluster_.Submit(CpuJob("job", 2));
  ASSERT_THAT(cluster_.GangOf(job), ElementsAre("a", "b"));
  cluster_.BeatGang(job);
  cluster_.Exit(job, "a", MemberOutcome::kRankFailed);
  cluster_.Exit(job, "b", MemberOutcome::kStopped);
  cluster_.Pass(absl::Seconds(1));
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("b", "c"));
}

TEST_F(GangLife, AWorkerOnWhichTheJobFailsAgainIsLeftOutWhileThereAreEnoughOthers) {
  JobRequest request = CpuJob("job", 1, 3);
  request.max_retries = 10;
  const JobId job = cluster_.Submit(request);
  const auto fail_on = [&](const WorkerName& worker) {
    cluster_.BeatGang(job);
    cluster_.Exit(job, worker, MemberOutcome::kRankFailed);
    cluster_.ExitGang(job, MemberOutcome::kStopped);
    const absl::Duration wait = *cluster_.Why(job).next_attempt - cluster_.now;
    cluster_.Pass(wait);
  };
  fail_on("b");
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("a", "b", "c")) << "once may be bad luck";
  fail_on("b");
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("a", "c"));
  ASSERT_OK(cluster_.Publish(job, 10));
  fail_on("a");
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("a", "b", "c")) << "a checkpoint forgives";
}

TEST_F(GangLife, MaxRetriesBoundsTheJobsOwnFailures) {
  JobRequest request = CpuJob("job");
  request.max_retries = 1;
  const JobId job = cluster_.Submit(request);
  cluster_.ExitGang(job, MemberOutcome::kRankFailed);
  cluster_.Pass(absl::Seconds(1));
  cluster_.ExitGang(job, MemberOutcome::kRankFailed);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kFailed);
  EXPECT_EQ(cluster_.job(job).reason.code, ReasonCode::kRetriesExceeded);
  EXPECT_THAT(cluster_.job(job).reason.text, HasSubstr("told so"));
}

TEST_F(GangLife, AUserErrorIsNotTriedAgain) {
  const JobId job = Running();
  cluster_.Exit(job, "a", MemberOutcome::kUserError, "text.txt: no such file");
  cluster_.Exit(job, "b", MemberOutcome::kPeerLost);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kFailed);
  EXPECT_EQ(cluster_.job(job).reason.code, ReasonCode::kUserError);
  EXPECT_THAT(cluster_.job(job).reason.text, HasSubstr("text.txt: no such file"));
}

// Peers notice a dead rank before its own agent reports it: the order of reports must not matter.
TEST_F(GangLife, TheWorstOutcomeIsTheVerdictWhateverCameFirst) {
  const JobId job = Running();
  cluster_.Exit(job, "b", MemberOutcome::kPeerLost, "exchange failed");
  cluster_.Exit(job, "a", MemberOutcome::kUserError, "bad data");
  EXPECT_EQ(cluster_.StateOf(job), JobState::kFailed);
  EXPECT_THAT(cluster_.job(job).reason.text, HasSubstr("bad data"));
}

TEST_F(GangLife, ALostHostCostsNoRetryAndTheRestGoesOnAtOnce) {
  const JobId job = Running(1, 3);
  ASSERT_THAT(cluster_.GangOf(job), SizeIs(3));
  cluster_.On(WorkerLeft{"b", "first"});
  KeepAlive(absl::Seconds(2));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("a", "c"));
  EXPECT_EQ(cluster_.job(job).counters.failures, 0);
  EXPECT_EQ(cluster_.job(job).counters.host_losses, 1);
  EXPECT_EQ(cluster_.job(job).counters.recoveries, 1);
}

TEST_F(GangLife, AClosedStreamIsForgivenWhenTheWorkerComesBackInTime) {
  const JobId job = Running();
  cluster_.On(WorkerLeft{"a", "first"});
  cluster_.Pass(absl::Milliseconds(900));
  cluster_.On(WorkerJoined{
      "a", "first", CpuWorker(), {{job, Generation(1), MemberPhase::kTraining, StepIndex(5), 1}}});
  KeepAlive(absl::Seconds(10));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  EXPECT_EQ(cluster_.job(job).generation, Generation(1));
}

TEST_F(GangLife, ASilentWorkerIsLostAfterTheHeartbeatTimeout) {
  const JobId job = Running(1);
  cluster_.Pass(absl::Seconds(4.9));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  cluster_.Pass(absl::Seconds(0.2));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  EXPECT_EQ(cluster_.state.FindWorker("a")->connection, WorkerConnection::kLost);
  EXPECT_THAT(cluster_.job(job).last_failure.reason.text, HasSubstr("no heartbeat"));
}

TEST_F(GangLife, ARestartedAgentHasLostItsRanks) {
  const JobId job = Running(1);
  cluster_.On(WorkerLeft{"a", "first"});
  cluster_.Join("a", CpuWorker(), "second");
  EXPECT_EQ(cluster_.job(job).generation, Generation(2));
  EXPECT_EQ(cluster_.job(job).counters.host_losses, 1);
}

TEST_F(GangLife, ANameInUseByALiveWorkerIsRefused) {
  EXPECT_THAT(cluster_.On(WorkerJoined{"a", "impostor", CpuWorker(), {}}).reply,
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(cluster_.On(Heartbeat{"a", "impostor", 1, {}}).reply,
              StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(cluster_.Sent<RefuseWorker>(), SizeIs(1));
}

TEST_F(GangLife, RanksOfAnOlderGenerationAreStoppedAndTakeUpTheirSlots) {
  const JobId job = Running(1);
  const WorkerName worker = cluster_.GangOf(job)[0];
  cluster_.Pass(absl::Seconds(6));  // everybody is lost
  cluster_.Beat(worker, {{job, Generation(1), MemberPhase::kTraining, StepIndex(9), 1}});
  const auto stops = cluster_.Sent<StopMember>();
  ASSERT_THAT(stops, SizeIs(1));
  EXPECT_EQ(stops[0].generation, Generation(1));
  EXPECT_EQ(cluster_.state.FindWorker(worker)->FreeSlots(), 0);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  cluster_.Beat(worker);
  EXPECT_EQ(cluster_.job(job).generation, Generation(2));
}

TEST_F(GangLife, ReportsOfAnOlderGenerationAreRefused) {
  const JobId job = Running(1);
  const WorkerName worker = cluster_.GangOf(job)[0];
  cluster_.ExitGang(job, MemberOutcome::kRankFailed);
  cluster_.Pass(absl::Seconds(1));
  ASSERT_EQ(cluster_.job(job).generation, Generation(2));
  EXPECT_THAT(cluster_.Publish(job, 50, Generation(1)), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(cluster_.job(job).checkpoints, IsEmpty());
  EXPECT_THAT(cluster_
                  .On(MemberExited{
                      worker, "first", job, Generation(1), MemberOutcome::kSucceeded, "", {}, ""})
                  .reply,
              StatusIs(absl::StatusCode::kAborted));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
}

TEST_F(GangLife, ARepeatedReportChangesNothing) {
  const JobId job = Running();
  ASSERT_OK(cluster_.Publish(job, 5));
  ASSERT_OK(cluster_.Publish(job, 5));
  EXPECT_THAT(cluster_.job(job).checkpoints, SizeIs(1));
  cluster_.Exit(job, "a", MemberOutcome::kSucceeded);
  const Outcome again = cluster_.Exit(job, "a", MemberOutcome::kSucceeded);
  EXPECT_OK(again.reply);
  EXPECT_THAT(again.facts, IsEmpty());
}

TEST_F(GangLife, AMemberThatVanishesWithoutAReportEndsTheGeneration) {
  const JobId job = Running(1);
  const WorkerName worker = cluster_.GangOf(job)[0];
  for (int i = 0; i < 4; ++i) {
    cluster_.Beat(worker);
    EXPECT_THAT(cluster_.Sent<StartMember>(), IsEmpty()) << "a rank that ran is not started again";
    cluster_.now += absl::Seconds(1);
  }
  cluster_.Beat(worker);
  EXPECT_EQ(cluster_.job(job).generation, Generation(2));
  EXPECT_THAT(cluster_.job(job).last_failure.reason.text, HasSubstr("without a report"));
}

// A full disk refuses the exit, again and again.
TEST_F(GangLife, AMemberWhoseExitIsStillToldHasNotVanished) {
  const JobId job = Running(1);
  const WorkerName worker = cluster_.GangOf(job)[0];
  for (int i = 0; i < 10; ++i) {
    cluster_.Beat(worker, {}, {{job, Generation(1)}});
    cluster_.now += absl::Seconds(1);
  }
  ASSERT_EQ(cluster_.StateOf(job), JobState::kRunning);
  cluster_.Exit(job, worker, MemberOutcome::kSucceeded);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kSucceeded);
}

TEST_F(GangLife, AMemberThatEndedBeforeItWasSeenIsNotStartedAgain) {
  const JobId job = cluster_.Submit(CpuJob("job"));
  cluster_.Beat("a", {}, {{job, Generation(1)}});
  EXPECT_THAT(cluster_.Sent<StartMember>(), IsEmpty());
  cluster_.Beat("a", {}, {{JobId(77), Generation(1)}, {job, Generation(2)}});
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting) << "others' ends say nothing of it";
}

TEST_F(GangLife, AnExitThatIsTheNextCoordinatorsToHearIsWaitedFor) {
  const JobId job = Running(1);
  const WorkerName worker = cluster_.GangOf(job)[0];
  cluster_.On(JobPauseRequested{job});
  cluster_.On(CoordinatorStarted{});
  cluster_.Pass(cluster_.policy.missing_grace + absl::Seconds(1));
  cluster_.On(WorkerJoined{worker, "first", CpuWorker(), {}, {{job, Generation(1)}}});
  ASSERT_EQ(cluster_.StateOf(job), JobState::kPausing);
  cluster_.Exit(job, worker, MemberOutcome::kSucceeded);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kSucceeded);
}

TEST_F(GangLife, PauseSavesStopsAndKeepsAndResumeQueuesAgain) {
  const JobId job = Running();
  ASSERT_OK(cluster_.On(JobPauseRequested{job}).reply);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kPausing);
  ASSERT_THAT(cluster_.Sent<StopMember>(), SizeIs(2));
  EXPECT_EQ(cluster_.Sent<StopMember>()[0].mode, StopMode::kSaveFirst);
  ASSERT_OK(cluster_.Publish(job, 7));
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kPaused);
  EXPECT_EQ(cluster_.job(job).counters.failures, 0);
  EXPECT_THAT(cluster_.On(JobPauseRequested{job}).reply,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("PAUSED")));
  ASSERT_OK(cluster_.On(JobResumeRequested{job}).reply);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
  EXPECT_EQ(cluster_.Sent<StartMember>().at(0).restore->step, StepIndex(7));
  EXPECT_EQ(cluster_.job(job).counters.recoveries, 0);
}

TEST_F(GangLife, AGangThatSavesTooLongIsStoppedWithout) {
  const JobId job = Running(1);
  cluster_.On(JobPauseRequested{job});
  KeepAlive(cluster_.policy.save_timeout + absl::Seconds(1));
  EXPECT_EQ(cluster_.job(job).stop, StopMode::kNow);
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kPaused);
}

TEST_F(GangLife, AGangThatDoesNotEndIsGivenUp) {
  const JobId job = Running(1);
  cluster_.On(JobCancelRequested{job});
  KeepAlive(cluster_.policy.release_timeout + absl::Seconds(1));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kCancelled);
  EXPECT_EQ(cluster_.state.FindWorker("a")->FreeSlots(), 0) << "its ranks are still there";
}

TEST_F(GangLife, AGangThatNeverTrainsIsAFailureOfTheJob) {
  const JobId job = cluster_.Submit(CpuJob("job"));
  cluster_.BeatGang(job, MemberPhase::kStarting);
  KeepAlive(cluster_.policy.start_timeout + absl::Seconds(1));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.job(job).counters.failures, 1);
  const Failure& failure = cluster_.job(job).last_failure;
  EXPECT_EQ(failure.reason.code, ReasonCode::kStartTimeout);
  EXPECT_EQ(failure.worker, "") << "nobody's fault in particular";
  EXPECT_EQ(failure.at, cluster_.now);
}

TEST_F(GangLife, AJobThatRunsAgainStillSaysWhatFailedLast) {
  cluster_.Join("wide", CpuWorker(4));
  JobRequest request = CpuJob("job", 2);
  request.slots_per_worker = 0;
  const JobId job = cluster_.Submit(request);
  cluster_.BeatGang(job);
  EXPECT_FALSE(cluster_.job(job).HasFailed());
  const GangMember last = cluster_.job(job).gang.back();
  const int32_t rank = last.first_rank + last.slots - 1;
  const absl::Time failed = cluster_.now;
  cluster_.Exit(job, last.worker, MemberOutcome::kRankFailed, "out of memory", rank);
  cluster_.now += absl::Seconds(1);  // the others take their time
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  cluster_.Pass(absl::Seconds(1));
  cluster_.BeatGang(job);
  ASSERT_EQ(cluster_.StateOf(job), JobState::kRunning);
  const Failure expected{
      {ReasonCode::kRankFailed, absl::StrCat("worker ", last.worker, ": out of memory")},
      Generation(1),
      last.worker,
      rank,
      failed};
  EXPECT_EQ(cluster_.job(job).last_failure, expected);
  // A pause is none, and so changes nothing.
  cluster_.On(JobPauseRequested{job});
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.job(job).last_failure, expected);
  // The next failure takes its place, also that of another kind.
  cluster_.On(JobResumeRequested{job});
  cluster_.BeatGang(job);
  const WorkerName gone = cluster_.GangOf(job).front();
  cluster_.On(WorkerLeft{gone, "first"});
  cluster_.Pass(absl::Seconds(2));
  cluster_.ExitGang(job, MemberOutcome::kPeerLost);
  EXPECT_EQ(cluster_.job(job).last_failure.reason.code, ReasonCode::kHostLost);
  EXPECT_EQ(cluster_.job(job).last_failure.worker, gone);
  EXPECT_EQ(cluster_.job(job).last_failure.rank, std::nullopt);
  EXPECT_EQ(cluster_.job(job).last_failure.generation, Generation(3));
}

TEST_F(GangLife, ARankThatIsNotTheMembersIsNotBelieved) {
  const JobId job = Running();
  cluster_.Exit(job, cluster_.GangOf(job)[0], MemberOutcome::kRankFailed, "odd", 1);
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.job(job).last_failure.worker, "a");
  EXPECT_EQ(cluster_.job(job).last_failure.rank, std::nullopt);
}

TEST_F(GangLife, CancelStopsAtOnceAndIsFinal) {
  const JobId job = Running();
  ASSERT_OK(cluster_.On(JobCancelRequested{job}).reply);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kCancelling);
  EXPECT_EQ(cluster_.Sent<StopMember>().at(0).mode, StopMode::kNow);
  EXPECT_THAT(cluster_.On(JobDeleteRequested{job}).reply,
              StatusIs(absl::StatusCode::kFailedPrecondition));
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kCancelled);
  EXPECT_THAT(cluster_.On(JobCancelRequested{job}).reply,
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(cluster_.On(JobDeleteRequested{job}).reply);
  EXPECT_THAT(cluster_.On(JobCancelRequested{job}).reply, StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(GangLife, ADrainedWorkersJobSavesAndMovesAndTheWorkerTakesNothingNew) {
  const JobId job = Running(1);
  const WorkerName worker = cluster_.GangOf(job)[0];
  ASSERT_OK(cluster_.On(DrainRequested{worker, "repair"}).reply);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  EXPECT_EQ(cluster_.Sent<StopMember>().at(0).mode, StopMode::kSaveFirst);
  EXPECT_FALSE(cluster_.state.FindWorker(worker)->IsDrained());
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
  EXPECT_NE(cluster_.GangOf(job)[0], worker);
  EXPECT_EQ(cluster_.job(job).counters.failures, 0);
  EXPECT_EQ(cluster_.job(job).counters.recoveries, 1);
  EXPECT_TRUE(cluster_.state.FindWorker(worker)->IsDrained());
  const JobId all = cluster_.Submit(CpuJob("all", 2));
  EXPECT_EQ(cluster_.StateOf(all), JobState::kQueued);
  EXPECT_EQ(cluster_.Why(all).draining, 1);
  ASSERT_OK(cluster_.On(UndrainRequested{worker}).reply);
  EXPECT_EQ(cluster_.StateOf(all), JobState::kStarting);
}

TEST_F(GangLife, ADrainUntilTheRestartEndsWithTheNextIncarnation) {
  ASSERT_OK(cluster_.On(DrainRequested{"a", "new kernel", true}).reply);
  ASSERT_OK(cluster_.On(DrainRequested{"b", "broken", true}).reply);
  ASSERT_OK(cluster_.On(DrainRequested{"b", "broken"}).reply);  // for good, now
  cluster_.Join("a", CpuWorker(), "first");
  EXPECT_TRUE(cluster_.state.FindWorker("a")->draining) << "only its connection was new";
  for (const char* worker : {"a", "b"}) {
    cluster_.On(WorkerLeft{worker, "first"});
    cluster_.Join(worker, CpuWorker(), "second");
  }
  EXPECT_FALSE(cluster_.state.FindWorker("a")->draining);
  EXPECT_TRUE(cluster_.state.FindWorker("b")->draining);
  ASSERT_OK(cluster_.On(DrainRequested{"b", "reboot", true}).reply);  // changes nothing
  cluster_.On(WorkerLeft{"b", "second"});
  cluster_.Join("b", CpuWorker(), "third");
  EXPECT_TRUE(cluster_.state.FindWorker("b")->draining);
}

TEST_F(GangLife, AWorkerWhoseAgentStopsIsDrainedUntilItStartsAgain) {
  const JobId job = Running(3);
  const auto leave = [&](const WorkerName& worker) {
    Heartbeat beat{worker,
                   "first",
                   ++cluster_.sequence,
                   {{job, Generation(1), MemberPhase::kSaving, StepIndex(1), 1}}};
    beat.leaving = true;
    return cluster_.On(beat);
  };
  ASSERT_OK(leave("b").reply);
  const auto stops = cluster_.Sent<StopMember>();
  EXPECT_THAT(stops, SizeIs(::testing::Ge(3)));
  for (const StopMember& stop : stops) EXPECT_EQ(stop.mode, StopMode::kSaveFirst);
  const Worker& left = *cluster_.state.FindWorker("b");
  EXPECT_TRUE(left.draining);
  EXPECT_EQ(left.drain_reason, "its agent is stopping");
  EXPECT_THAT(leave("b").facts, SizeIs(1)) << "the report alone: nothing is decided twice";
  cluster_.ExitGang(job, MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  EXPECT_EQ(cluster_.job(job).generation, Generation(1)) << "not on the worker that leaves";
  cluster_.On(WorkerLeft{"b", "first"});
  cluster_.Join("b", CpuWorker(), "second");
  EXPECT_FALSE(left.draining);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
  EXPECT_EQ(cluster_.job(job).counters.failures, 0);
  EXPECT_EQ(cluster_.job(job).counters.host_losses, 0);
  EXPECT_FALSE(cluster_.job(job).HasFailed());
}

TEST_F(GangLife, TheDrainOfAPersonOutlastsTheStopOfTheAgent) {
  ASSERT_OK(cluster_.On(DrainRequested{"a", "broken"}).reply);
  Heartbeat beat{"a", "first", ++cluster_.sequence, {}};
  beat.leaving = true;
  ASSERT_OK(cluster_.On(beat).reply);
  EXPECT_EQ(cluster_.state.FindWorker("a")->drain_reason, "broken");
  cluster_.On(WorkerLeft{"a", "first"});
  cluster_.Join("a", CpuWorker(), "second");
  EXPECT_TRUE(cluster_.state.FindWorker("a")->draining);
}

TEST_F(GangLife, ADrainUntilTheRestartNeedsAnAgentThatIsKnown) {
  // As after a restart of the coordinator.
  cluster_.state = RestoreState({}, {*cluster_.state.FindWorker("a")}, {}, JobId());
  EXPECT_THAT(cluster_.On(DrainRequested{"a", "", true}).reply,
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(cluster_.On(DrainRequested{"a", "", false}).reply);
}

TEST_F(GangLife, AHostKillerRunsOutOfRetriesToo) {
  JobRequest request = CpuJob("killer");
  request.max_retries = 0;
  const JobId job = cluster_.Submit(request);
  for (int losses = 0; losses <= cluster_.policy.max_losses_without_progress; ++losses) {
    ASSERT_EQ(cluster_.StateOf(job), JobState::kStarting) << losses;
    const WorkerName worker = cluster_.GangOf(job)[0];
    cluster_.On(WorkerLeft{worker, cluster_.incarnations[worker]});
    cluster_.Join(worker, CpuWorker(), absl::StrCat("start ", losses));
  }
  EXPECT_EQ(cluster_.StateOf(job), JobState::kFailed);
}

// --- the coordinator itself comes and goes
// ---------------------------------------------------------

TEST_F(GangLife, ARestartedCoordinatorAdoptsWhatRuns) {
  const JobId job = Running();
  cluster_.now += absl::Minutes(5);
  cluster_.On(CoordinatorStarted{});
  cluster_.Pass(absl::Seconds(20));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  for (const char* name : {"a", "b"}) {
    cluster_.On(WorkerJoined{name,
                             "first",
                             CpuWorker(),
                             {{job, Generation(1), MemberPhase::kTraining, StepIndex(90), 1}}});
    EXPECT_THAT(cluster_.commands, IsEmpty());
  }
  KeepAlive(absl::Seconds(30));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  EXPECT_EQ(cluster_.job(job).generation, Generation(1));
  EXPECT_EQ(cluster_.job(job).step, StepIndex(90));
}

TEST_F(GangLife, WhoDoesNotComeBackWithinTheAdoptionGraceIsLost) {
  const JobId job = Running(1);
  cluster_.On(CoordinatorStarted{});
  cluster_.Pass(cluster_.policy.adoption_grace + absl::Seconds(1));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  EXPECT_EQ(cluster_.Why(job).rule, WaitRule::kNoSuchDevice);
}

TEST_F(GangLife, AWorkerThatCameBackAndLeftAgainStillHasTheRestOfTheAdoptionGrace) {
  const JobId job = Running();
  cluster_.On(CoordinatorStarted{});
  const auto come_back = [&](const char* name) {
    cluster_.On(WorkerJoined{name,
                             "first",
                             CpuWorker(),
                             {{job, Generation(1), MemberPhase::kTraining, StepIndex(9), 1}}});
  };
  come_back("a");
  come_back("b");
  cluster_.On(WorkerLeft{"a", "first"});
  KeepAlive(absl::Seconds(20));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  come_back("a");
  KeepAlive(absl::Seconds(20));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  cluster_.On(WorkerLeft{"a", "first"});
  KeepAlive(absl::Seconds(2));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued) << "the restart is long ago";
}

TEST_F(GangLife, OnlyGangsFromBeforeTheRestartAreWaitedForAsLong) {
  cluster_.On(CoordinatorStarted{});
  cluster_.Pass(cluster_.policy.gather_time);
  cluster_.Join("a");
  const JobId job = cluster_.Submit(CpuJob("job"));
  cluster_.BeatGang(job);
  cluster_.On(WorkerLeft{"a", "first"});
  cluster_.Pass(cluster_.policy.reconnect_grace);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
}

TEST_F(GangLife, SilenceWhileTheCoordinatorWasStoppedCondemnsNobody) {
  const JobId job = Running();
  const absl::Time asked = cluster_.wakeup;
  cluster_.now = asked + absl::Minutes(1);
  cluster_.On(TimerFired{asked});
  EXPECT_EQ(cluster_.StateOf(job), JobState::kRunning);
  cluster_.Pass(cluster_.policy.heartbeat_timeout);
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued) << "then the usual rules hold again";
}

// Whoever is stopped has not read what came meanwhile: only the lateness of its timer says so.
TEST_F(GangLife, APauseOfTheCoordinatorOfAnyLengthCondemnsNobody) {
  const JobId job = Running();
  for (absl::Duration pause; pause < absl::Seconds(12); pause += absl::Milliseconds(500)) {
    const absl::Time asked = cluster_.wakeup;
    cluster_.now = std::max(cluster_.now + pause, asked);
    cluster_.On(TimerFired{asked});
    ASSERT_EQ(cluster_.StateOf(job), JobState::kRunning) << pause;
    for (const char* name : {"a", "b", "c"}) {
      cluster_.Beat(name, cluster_.state.FindWorker(name)->running);
    }
  }
}

TEST_F(GangLife, ALostWorkerIsForgottenAfterAWhileUnlessItIsDrained) {
  cluster_.On(DrainRequested{"a", "reboot", true});  // which does not count
  cluster_.On(DrainRequested{"b", "broken"});
  cluster_.Pass(absl::Hours(2));
  EXPECT_EQ(cluster_.state.FindWorker("a"), nullptr);
  ASSERT_NE(cluster_.state.FindWorker("b"), nullptr);
  EXPECT_EQ(cluster_.wakeup, absl::InfiniteFuture());
  ASSERT_OK(cluster_.On(UndrainRequested{"b"}).reply);
  cluster_.Pass(absl::Hours(2));
  EXPECT_EQ(cluster_.state.FindWorker("b"), nullptr);
}

}  // namespace
}  // namespace weft::coordinator
