// What every JobStore promises. A kind of store instantiates the suite with its fixture:
//   JobStore& store();
//   void Reopen();  // as a restart of the coordinator would
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/store/job_store.h"
#include "tests/coordinator/store/stored_history.h"

namespace weft::coordinator {

template <class Fixture>
class JobStoreContract : public ::testing::Test {
 protected:
  Fixture fixture_;
};
TYPED_TEST_SUITE_P(JobStoreContract);

inline Fact Added(int64_t id) {
  JobRequest request = CpuJob("job");
  request.request_id = absl::StrCat("request-", id);
  return JobAdded{JobId(id), request, absl::FromUnixSeconds(id)};
}

TYPED_TEST_P(JobStoreContract, ANewStoreIsEmptyAndHasTheDefaultQueue) {
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, this->fixture_.store().Load());
  EXPECT_EQ(loaded.version, StoreVersion());
  EXPECT_TRUE(loaded.state.jobs.empty());
  EXPECT_TRUE(loaded.state.workers.empty());
  EXPECT_NE(loaded.state.FindQueue(kDefaultQueue), nullptr);
}

TYPED_TEST_P(JobStoreContract, LoadGivesWhatTheFactsBuild) {
  ClusterState expected;
  StoreVersion version;
  for (const std::vector<Fact>& batch : StoredHistory()) {
    ASSERT_OK_AND_ASSIGN(version, this->fixture_.store().Commit(version, batch));
    for (const Fact& fact : batch) Apply(expected, fact);
    this->fixture_.Reopen();
    ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, this->fixture_.store().Load());
    ASSERT_EQ(loaded.version, version);
    ASSERT_OK(CheckInvariants(loaded.state));
    ASSERT_EQ(loaded.state.jobs, expected.jobs) << FactName(batch.front());
    ASSERT_EQ(loaded.state.queues, expected.queues) << FactName(batch.front());
    ASSERT_EQ(loaded.state.lanes, expected.lanes) << FactName(batch.front());
    ASSERT_EQ(loaded.state.last_job, expected.last_job);
    ASSERT_EQ(loaded.state.workers.size(), expected.workers.size());
    for (const auto& [name, worker] : expected.workers) {
      const Worker* read = loaded.state.FindWorker(name);
      ASSERT_NE(read, nullptr);
      EXPECT_EQ(read->offer, worker.offer);
      EXPECT_EQ(read->draining, worker.draining);
      EXPECT_EQ(read->drain_reason, worker.drain_reason);
      EXPECT_EQ(read->drained_incarnation, worker.drained_incarnation);
      EXPECT_EQ(read->placed.size(), worker.placed.size());
    }
  }
  EXPECT_GT(version, StoreVersion(20));
}

TYPED_TEST_P(JobStoreContract, WhatFailedLastIsKnownAfterARestart) {
  TestCluster cluster;
  cluster.Pass(cluster.policy.gather_time);
  cluster.Join("a");
  const JobId id = cluster.Submit(CpuJob("job"));
  cluster.BeatGang(id);
  cluster.Exit(id, "a", MemberOutcome::kRankFailed, "out of memory", 0);
  const absl::Time failed = cluster.now;
  cluster.Pass(absl::Seconds(2));
  cluster.BeatGang(id);
  StoreVersion version;
  for (const std::vector<Fact>& facts : cluster.history) {
    std::vector<Fact> durable;
    std::copy_if(facts.begin(), facts.end(), std::back_inserter(durable), IsDurable);
    if (durable.empty()) continue;
    ASSERT_OK_AND_ASSIGN(version, this->fixture_.store().Commit(version, durable));
  }
  this->fixture_.Reopen();
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, this->fixture_.store().Load());
  const Job* job = loaded.state.FindJob(id);
  ASSERT_NE(job, nullptr);
  EXPECT_EQ(job->state, JobState::kRunning);
  EXPECT_EQ(
      job->last_failure,
      (Failure{
          {ReasonCode::kRankFailed, "worker a: out of memory"}, Generation(1), "a", 0, failed}));
}

TYPED_TEST_P(JobStoreContract, ACommitOnAnotherVersionIsAbortedAndStoresNothing) {
  ASSERT_OK_AND_ASSIGN(const StoreVersion version,
                       this->fixture_.store().Commit(StoreVersion(), {Added(1)}));
  EXPECT_THAT(this->fixture_.store().Commit(StoreVersion(), {Added(2)}),
              ::weft::testing::StatusIs(absl::StatusCode::kAborted,
                                        ::testing::HasSubstr("another coordinator")));
  EXPECT_THAT(this->fixture_.store().Commit(version.Next(), {Added(2)}),
              ::weft::testing::StatusIs(absl::StatusCode::kAborted));
  this->fixture_.Reopen();
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, this->fixture_.store().Load());
  EXPECT_EQ(loaded.version, version);
  EXPECT_EQ(loaded.state.jobs.size(), 1U);
  EXPECT_OK(this->fixture_.store().Commit(version, {Added(2)}));
}

TYPED_TEST_P(JobStoreContract, ARequestIdIsRememberedAcrossARestart) {
  ASSERT_OK(this->fixture_.store().Commit(StoreVersion(), {Added(1)}));
  this->fixture_.Reopen();
  ASSERT_OK_AND_ASSIGN(StoredCluster loaded, this->fixture_.store().Load());
  JobRequest again = CpuJob("job");
  again.request_id = "request-1";
  const Outcome repeated =
      Decide(loaded.state, JobSubmitted{again}, absl::FromUnixSeconds(9), Policy());
  EXPECT_THAT(repeated.reply, ::weft::testing::IsOkAndHolds(JobId(1)));
  EXPECT_TRUE(repeated.facts.empty());
}

TYPED_TEST_P(JobStoreContract, AnIdIsNeverGivenTwiceAlsoAfterADeletionAndARestart) {
  JobGoalSet cancelled{JobId(1), JobGoal::kCancel, JobState::kCancelled, {}, absl::UnixEpoch()};
  ASSERT_OK(
      this->fixture_.store().Commit(StoreVersion(), {Added(1), cancelled, JobDeleted{JobId(1)}}));
  this->fixture_.Reopen();
  ASSERT_OK_AND_ASSIGN(const StoredCluster loaded, this->fixture_.store().Load());
  EXPECT_TRUE(loaded.state.jobs.empty());
  EXPECT_EQ(loaded.state.last_job, JobId(1));
}

REGISTER_TYPED_TEST_SUITE_P(JobStoreContract, ANewStoreIsEmptyAndHasTheDefaultQueue,
                            LoadGivesWhatTheFactsBuild, WhatFailedLastIsKnownAfterARestart,
                            ACommitOnAnotherVersionIsAbortedAndStoresNothing,
                            ARequestIdIsRememberedAcrossARestart,
                            AnIdIsNeverGivenTwiceAlsoAfterADeletionAndARestart);

}  // namespace weft::coordinator
