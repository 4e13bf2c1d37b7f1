// Who is placed, where, and who waits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/core/test_cluster.h"

namespace weft::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::weft::testing::IsOkAndHolds;
using ::weft::testing::StatusIs;

class Scheduling : public ::testing::Test {
 protected:
  Scheduling() { cluster_.Pass(cluster_.policy.gather_time); }
  TestCluster cluster_;
};

TEST_F(Scheduling, AGangIsPlacedWholeOrNotAtAll) {
  cluster_.Join("a");
  cluster_.Join("b");
  const JobId job = cluster_.Submit(CpuJob("three", 3));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  cluster_.Join("c");
  EXPECT_EQ(cluster_.StateOf(job), JobState::kStarting);
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("a", "b", "c"));
  const auto starts = cluster_.Sent<StartMember>();
  ASSERT_THAT(starts, SizeIs(3));
  EXPECT_EQ(starts[2].member_index, 2);
  EXPECT_EQ(starts[2].gang, cluster_.job(job).gang);
  EXPECT_EQ(starts[2].gang[2].first_rank, 2);
}

TEST_F(Scheduling, AGangTakesAsManyWorkersAsAreFreeUpToItsMaximum) {
  for (const char* name : {"a", "b", "c", "d"}) cluster_.Join(name);
  EXPECT_THAT(cluster_.GangOf(cluster_.Submit(CpuJob("two", 1, 2))), SizeIs(2));
  EXPECT_THAT(cluster_.GangOf(cluster_.Submit(CpuJob("rest", 1, 9))), SizeIs(2));
}

TEST_F(Scheduling, HigherPriorityGoesFirstAndWithinItTheOlderJob) {
  const JobId old_low = cluster_.Submit(CpuJob("low"));
  JobRequest high = CpuJob("high");
  high.priority = 5;
  const JobId first = cluster_.Submit(high);
  const JobId second = cluster_.Submit(high);
  cluster_.Join("a");
  EXPECT_EQ(cluster_.StateOf(first), JobState::kStarting);
  EXPECT_EQ(cluster_.StateOf(second), JobState::kQueued);
  EXPECT_EQ(cluster_.StateOf(old_low), JobState::kQueued);
}

TEST_F(Scheduling, FreeWorkersAreKeptForAnEarlierJobThatNeedsMore) {
  cluster_.Join("a");
  cluster_.Join("b");
  cluster_.Submit(CpuJob("holder"));
  const JobId large = cluster_.Submit(CpuJob("large", 2));
  const JobId small = cluster_.Submit(CpuJob("small"));
  EXPECT_EQ(cluster_.StateOf(large), JobState::kQueued);
  EXPECT_EQ(cluster_.StateOf(small), JobState::kQueued);
  const Explanation why = cluster_.Why(small);
  EXPECT_EQ(why.rule, WaitRule::kBehindOthers);
  EXPECT_EQ(why.first_ahead, large);
}

TEST_F(Scheduling, AJobThatTheClusterCanNeverHoldDoesNotHoldUpOthers) {
  cluster_.Join("a");
  const JobId huge = cluster_.Submit(CpuJob("huge", 50));
  const JobId small = cluster_.Submit(CpuJob("small"));
  EXPECT_EQ(cluster_.StateOf(huge), JobState::kQueued);
  EXPECT_EQ(cluster_.StateOf(small), JobState::kStarting);
}

TEST_F(Scheduling, WhatAGangHasFreedIsKeptForItsJobUntilTheRestHasEnded) {
  cluster_.Join("a");
  cluster_.Join("b");
  ASSERT_OK(cluster_.On(QueueCreateRequested{{"night", 2}}).reply);
  JobRequest request = CpuJob("high", 2);
  request.priority = 5;
  request.queue = "night";
  const JobId high = cluster_.Submit(request);
  cluster_.BeatGang(high);
  const JobId low = cluster_.Submit(CpuJob("low"));
  cluster_.Exit(high, "a", MemberOutcome::kPeerLost);
  ASSERT_EQ(cluster_.Why(high).rule, WaitRule::kStopping);
  EXPECT_EQ(cluster_.StateOf(low), JobState::kQueued);
  EXPECT_EQ(cluster_.Why(low).rule, WaitRule::kBehindOthers);
  cluster_.Exit(high, "b", MemberOutcome::kStopped);
  EXPECT_EQ(cluster_.StateOf(high), JobState::kStarting);
  EXPECT_EQ(cluster_.StateOf(low), JobState::kQueued);
}

TEST_F(Scheduling, NothingIsKeptForAStoppingJobThatTheRestOfTheClusterCannotHold) {
  for (const char* name : {"a", "b", "c"}) cluster_.Join(name);
  const JobId high = cluster_.Submit(CpuJob("high", 3));
  cluster_.BeatGang(high);
  const JobId low = cluster_.Submit(CpuJob("low"));
  cluster_.On(WorkerLeft{"a", "first"});
  cluster_.Pass(cluster_.policy.reconnect_grace);
  cluster_.Exit(high, "b", MemberOutcome::kStopped);
  ASSERT_EQ(cluster_.Why(high).rule, WaitRule::kStopping);
  EXPECT_THAT(cluster_.GangOf(low), ElementsAre("b"));
}

TEST_F(Scheduling, AGangIsOfOneDeviceKindAndClass) {
  cluster_.Join("a", CpuWorker(1, "avx2"));
  cluster_.Join("b", CpuWorker(1, "avx512"));
  WorkerOffer gpu = CpuWorker();
  gpu.device_kind = "gpu";
  cluster_.Join("c", gpu);
  const JobId job = cluster_.Submit(CpuJob("two", 2));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  cluster_.Join("d", CpuWorker(1, "avx512"));
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("b", "d"));
  EXPECT_EQ(cluster_.job(job).device_class, "avx512");
}

TEST_F(Scheduling, AJobForAnyDeviceTakesTheKindThatCanHoldItsGang) {
  WorkerOffer gpu = CpuWorker(1, "cuda-sm90");
  gpu.device_kind = "gpu";
  cluster_.Join("a");
  cluster_.Join("g", gpu);
  JobRequest request = CpuJob("two", 2);
  request.device_kind = kAnyDeviceKind;
  const JobId job = cluster_.Submit(request);
  // Two workers are there, but not of one class.
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  EXPECT_EQ(cluster_.Why(job).rule, WaitRule::kTooFewWorkers);
  cluster_.Join("h", gpu);
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("g", "h"));
  EXPECT_EQ(cluster_.job(job).device_class, "cuda-sm90");
}

TEST_F(Scheduling, JobsForAnyDeviceAndForOneKindKeepTheirOrder) {
  WorkerOffer gpu = CpuWorker(1, "cuda-sm90");
  gpu.device_kind = "gpu";
  cluster_.Join("a");
  cluster_.Join("b");
  cluster_.Join("g", gpu);
  const JobId holder = cluster_.Submit(CpuJob("holder"));
  // Waits for both CPU workers, one of which is busy: what is free of them is kept for it.
  const JobId first = cluster_.Submit(CpuJob("first", 2));
  JobRequest any = CpuJob("any");
  any.device_kind = kAnyDeviceKind;
  const JobId second = cluster_.Submit(any);
  EXPECT_EQ(cluster_.StateOf(first), JobState::kQueued);
  EXPECT_THAT(cluster_.GangOf(second), ElementsAre("g"));
  // Now the one for any device waits, and what comes after it must not overtake it.
  const JobId third = cluster_.Submit(any);
  EXPECT_EQ(cluster_.StateOf(third), JobState::kQueued);
  cluster_.BeatGang(holder);
  cluster_.ExitGang(holder, MemberOutcome::kSucceeded);
  EXPECT_THAT(cluster_.GangOf(first), SizeIs(2));
  JobRequest late = CpuJob("late");
  late.device_kind = "gpu";
  const JobId last = cluster_.Submit(late);
  EXPECT_EQ(cluster_.Why(last).rule, WaitRule::kWorkersBusy);
  EXPECT_EQ(cluster_.Why(last).ahead, 1);
  cluster_.BeatGang(second);
  cluster_.ExitGang(second, MemberOutcome::kSucceeded);
  EXPECT_THAT(cluster_.GangOf(third), ElementsAre("g"));
  EXPECT_EQ(cluster_.StateOf(last), JobState::kQueued);
}

TEST_F(Scheduling, AReproducibleJobStaysOnTheClassOfItsCheckpoint) {
  cluster_.Join("a", CpuWorker(1, "avx2"));
  const JobId job = cluster_.Submit(CpuJob("job"));
  ASSERT_OK(cluster_.Publish(job, 3));
  cluster_.Join("b", CpuWorker(1, "avx512"));
  cluster_.On(WorkerLeft{"a", "first"});
  cluster_.Pass(absl::Seconds(10));
  EXPECT_EQ(cluster_.StateOf(job), JobState::kQueued);
  EXPECT_EQ(cluster_.Why(job).rule, WaitRule::kNoSuchDevice);
  EXPECT_EQ(cluster_.Why(job).device_class, "avx2");
  cluster_.Join("c", CpuWorker(1, "avx2"));
  EXPECT_THAT(cluster_.GangOf(job), ElementsAre("c"));
}

TEST_F(Scheduling, SlotsAreSharedByJobsAndAWholeWorkerIsTakenOnRequest) {
  cluster_.Join("a", CpuWorker(4));
  const JobId one = cluster_.Submit(CpuJob("one"));
  JobRequest whole = CpuJob("whole");
  whole.slots_per_worker = 0;
  const JobId all = cluster_.Submit(whole);
  EXPECT_EQ(cluster_.StateOf(all), JobState::kQueued);
  cluster_.BeatGang(one);
  cluster_.ExitGang(one, MemberOutcome::kSucceeded);
  EXPECT_EQ(cluster_.StateOf(one), JobState::kSucceeded);
  EXPECT_EQ(cluster_.job(all).gang.at(0).slots, 4);
}

TEST_F(Scheduling, AQueueGivesOutNoMoreWorkersThanItsLimit) {
  ASSERT_OK(cluster_.On(QueueCreateRequested{{"night", 2}}).reply);
  for (const char* name : {"a", "b", "c", "d"}) cluster_.Join(name);
  JobRequest request = CpuJob("elastic", 1, 4);
  request.queue = "night";
  const JobId first = cluster_.Submit(request);
  const JobId second = cluster_.Submit(request);
  const JobId other = cluster_.Submit(CpuJob("other"));
  EXPECT_THAT(cluster_.GangOf(first), SizeIs(2));
  EXPECT_EQ(cluster_.StateOf(second), JobState::kQueued);
  EXPECT_EQ(cluster_.StateOf(other), JobState::kStarting);
  const Explanation why = cluster_.Why(second);
  EXPECT_EQ(why.rule, WaitRule::kQueueLimit);
  ASSERT_THAT(why.holders, SizeIs(1));
  EXPECT_EQ(why.holders[0].job, first);
}

TEST_F(Scheduling, AJobThatItsQueuesLimitCanNeverHoldDoesNotHoldUpTheQueue) {
  ASSERT_OK(cluster_.On(QueueCreateRequested{{"night", 2}}).reply);
  for (const char* name : {"a", "b", "c"}) cluster_.Join(name);
  JobRequest request = CpuJob("wide", 3);
  request.queue = "night";
  const JobId wide = cluster_.Submit(request);
  request = CpuJob("small");
  request.queue = "night";
  const JobId small = cluster_.Submit(request);
  EXPECT_EQ(cluster_.StateOf(small), JobState::kStarting);
  ASSERT_EQ(cluster_.StateOf(wide), JobState::kQueued);
  const Explanation why = cluster_.Why(wide);
  EXPECT_EQ(why.rule, WaitRule::kQueueLimit);
  EXPECT_EQ(why.short_by, 1) << "also when nobody else is in the queue";
  EXPECT_THAT(why.holders, SizeIs(0)) << "it does not wait for them";
  EXPECT_THAT(why.summary, HasSubstr("the job needs 3, so it cannot start unless the limit is"));
  cluster_.BeatGang(small);
  cluster_.ExitGang(small, MemberOutcome::kSucceeded);
  EXPECT_EQ(cluster_.StateOf(wide), JobState::kQueued);
  ASSERT_OK(cluster_.On(QueueUpdateRequested{{"night", 3}}).reply);
  EXPECT_EQ(cluster_.StateOf(wide), JobState::kStarting);
}

TEST_F(Scheduling, BusyWorkersAreExplainedWithHoldersAndACounterOffer) {
  for (const char* name : {"a", "b", "c"}) cluster_.Join(name);
  const JobId holder = cluster_.Submit(CpuJob("holder", 2));
  const JobId job = cluster_.Submit(CpuJob("job", 3));
  const Explanation why = cluster_.Why(job);
  EXPECT_EQ(why.rule, WaitRule::kWorkersBusy);
  EXPECT_EQ(why.needed, 3);
  EXPECT_EQ(why.available, 1);
  EXPECT_EQ(why.existing, 3);
  EXPECT_EQ(why.short_by, 2);
  ASSERT_THAT(why.holders, SizeIs(1));
  EXPECT_EQ(why.holders[0].job, holder);
  EXPECT_EQ(why.holders[0].workers, 2);
  EXPECT_EQ(why.would_start_with, 1);
  EXPECT_THAT(why.summary, HasSubstr("holder-1 (2 workers)"));
  EXPECT_THAT(why.summary, HasSubstr("min_workers: 1"));
}

TEST_F(Scheduling, MoreWorkersThanExistAreExplained) {
  cluster_.Join("a");
  const Explanation why = cluster_.Why(cluster_.Submit(CpuJob("job", 3)));
  EXPECT_EQ(why.rule, WaitRule::kTooFewWorkers);
  EXPECT_EQ(why.would_start_with, 1);
  EXPECT_THAT(why.summary, HasSubstr("needs 3 cpu worker(s), the cluster has 1"));
}

TEST(Gathering, AfterAStartOnlyFullGangsArePlacedForAMoment) {
  TestCluster cluster;
  cluster.Join("a");
  const JobId job = cluster.Submit(CpuJob("job", 1, 2));
  EXPECT_EQ(cluster.StateOf(job), JobState::kQueued);
  EXPECT_EQ(cluster.Why(job).rule, WaitRule::kGathering);
  cluster.Join("b");
  EXPECT_THAT(cluster.GangOf(job), SizeIs(2));
  const JobId second = cluster.Submit(CpuJob("second", 1, 2));
  cluster.Join("c");
  EXPECT_EQ(cluster.StateOf(second), JobState::kQueued);
  cluster.Pass(cluster.policy.gather_time);
  EXPECT_THAT(cluster.GangOf(second), ElementsAre("c"));
}

TEST_F(Scheduling, ARepeatedRequestIdReturnsTheFirstJob) {
  JobRequest request = CpuJob("job");
  request.request_id = "unique";
  const JobId first = cluster_.Submit(request);
  const Outcome again = cluster_.On(JobSubmitted{request});
  EXPECT_THAT(again.reply, IsOkAndHolds(first));
  EXPECT_TRUE(again.facts.empty());
  request.spec = SharedBytes("another");
  EXPECT_THAT(cluster_.On(JobSubmitted{request}).reply,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("unique")));
}

TEST_F(Scheduling, ImpossibleRequestsAreRefusedWithTheReason) {
  JobRequest request = CpuJob("job", 3);
  request.max_workers = 2;
  EXPECT_THAT(cluster_.On(JobSubmitted{request}).reply,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_workers is 2")));
  request = CpuJob("job");
  request.queue = "nowhere";
  EXPECT_THAT(cluster_.On(JobSubmitted{request}).reply,
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
  cluster_.policy.max_queued_jobs = 1;
  cluster_.Submit(CpuJob("one"));
  EXPECT_THAT(cluster_.On(JobSubmitted{CpuJob("two")}).reply,
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(Scheduling, WhoNamesAQueueThatIsNotThereIsToldWhichAre) {
  EXPECT_EQ(NoSuchQueue(cluster_.state, "nowhere").message(),
            "there is no queue \"nowhere\"; there are: default");
  EXPECT_OK(cluster_.On(QueueCreateRequested{{"batch", 1}}).reply);
  JobRequest request = CpuJob("job");
  request.queue = "nowhere";
  for (const Event& event :
       std::vector<Event>{JobSubmitted{request}, QueueUpdateRequested{{"nowhere", 1}},
                          QueueDeleteRequested{"nowhere"}}) {
    EXPECT_THAT(cluster_.On(event).reply,
                StatusIs(absl::StatusCode::kNotFound,
                         "there is no queue \"nowhere\"; there are: batch, default"));
  }
  for (int i = 10; i < 30; ++i) {
    EXPECT_OK(cluster_.On(QueueCreateRequested{{absl::StrCat("q", i), 1}}).reply);
  }
  EXPECT_THAT(std::string(NoSuchQueue(cluster_.state, "nowhere").message()),
              ::testing::EndsWith(", q26, q27 and 2 more"));
}

TEST_F(Scheduling, JobsAreFoundByName) {
  const JobId job = cluster_.Submit(CpuJob("my-model"));
  EXPECT_EQ(cluster_.state.FindJob("my-model-1"), cluster_.state.FindJob(job));
  EXPECT_EQ(cluster_.state.FindJob("my-model-2"), nullptr);
  EXPECT_EQ(cluster_.state.FindJob("other-1"), nullptr);
  EXPECT_EQ(cluster_.state.FindJob("nodash"), nullptr);
}

TEST_F(Scheduling, QueuesAreCreatedChangedAndDeletedByTheRules) {
  EXPECT_OK(cluster_.On(QueueCreateRequested{{"q", 1}}).reply);
  EXPECT_THAT(cluster_.On(QueueCreateRequested{{"q", 1}}).reply,
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(cluster_.On(QueueUpdateRequested{{"z", 1}}).reply,
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(cluster_.On(QueueDeleteRequested{kDefaultQueue}).reply,
              StatusIs(absl::StatusCode::kFailedPrecondition));
  JobRequest request = CpuJob("job");
  request.queue = "q";
  const JobId job = cluster_.Submit(request);
  EXPECT_THAT(cluster_.On(QueueDeleteRequested{"q"}).reply,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("1 job")));
  ASSERT_OK(cluster_.On(JobCancelRequested{job}).reply);
  EXPECT_OK(cluster_.On(QueueDeleteRequested{"q"}).reply);
}

TEST(PolicyValidate, TellsAllProblemsAtOnce) {
  EXPECT_OK(Policy().Validate());
  Policy policy;
  policy.heartbeat_timeout = absl::Milliseconds(100);
  policy.adoption_grace = absl::ZeroDuration();
  EXPECT_THAT(policy.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          ::testing::AllOf(HasSubstr("heartbeat_timeout"),
                                                           HasSubstr("adoption_grace"))));
}

}  // namespace
}  // namespace weft::coordinator
