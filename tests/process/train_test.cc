// A job from submit to text: two workers train together over MPI, people watch, a checkpoint
// remains.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/rpc/grpc_status.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::ContainsRegex;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using weft::testing::HttpGet;
using weft::testing::TestCluster;
using weft::testing::TinySpec;

class Train : public ::testing::Test {
 protected:
  // A finished job on two workers; most tests look at what it left.
  void SetUp() override {
    ASSERT_OK(cluster_.Start(2));
    v1::JobSpec spec = TinySpec(cluster_.text_path(), 60);
    spec.mutable_resources()->set_min_workers(2);
    spec.mutable_resources()->set_max_workers(2);
    ASSERT_OK_AND_ASSIGN(const v1::Job submitted, cluster_.Submit(spec));
    ASSERT_OK_AND_ASSIGN(job_, cluster_.AwaitState(submitted.name(), v1::Job::STATE_SUCCEEDED));
  }

  TestCluster cluster_;
  v1::Job job_;
};

TEST_F(Train, TwoWorkersBringTheLossDown) {
  EXPECT_EQ(job_.last_step().step(), 60);
  EXPECT_EQ(job_.generation(), 1);
  ASSERT_TRUE(job_.has_first_loss());
  EXPECT_LT(job_.last_step().loss(), job_.first_loss() - 1);
  EXPECT_TRUE(job_.has_validation_loss());
  EXPECT_THAT(job_.weights_hash(), SizeIs(64));
}

TEST_F(Train, LeavesCheckpointsThatItLists) {
  grpc::ClientContext context;
  v1::ListCheckpointsRequest request;
  request.set_parent(job_.name());
  v1::ListCheckpointsResponse listed;
  ASSERT_OK(FromGrpc(v1::CheckpointService::NewStub(cluster_.channel())
                         ->ListCheckpoints(&context, request, &listed)));
  ASSERT_THAT(listed.checkpoints(), SizeIs(2));  // `keep` is 2
  EXPECT_EQ(listed.checkpoints(0).step(), 60);
  EXPECT_EQ(listed.checkpoints(0).weights_hash(), job_.weights_hash());
  EXPECT_TRUE(std::filesystem::exists(listed.checkpoints(0).path() + "/MANIFEST.json"));
  EXPECT_TRUE(std::filesystem::exists(listed.checkpoints(0).path() + "/weights.safetensors"));
}

TEST_F(Train, WritesTextThatTheSeedDecides) {
  const auto first = cluster_.Cli({"sample", "tiny", "--prompt", "the ", "--tokens", "40"});
  EXPECT_EQ(first.exit_code, 0) << first.errors;
  EXPECT_THAT(first.output, ::testing::StartsWith("the "));
  EXPECT_THAT(first.output, SizeIs(Ge(30)));
  const auto again = cluster_.Cli({"sample", "tiny", "--prompt", "the ", "--tokens", "40"});
  EXPECT_EQ(first.output, again.output);
}

TEST_F(Train, KeepsItsLogAndItsHistory) {
  const auto logs = cluster_.Cli({"logs", "tiny"});
  EXPECT_EQ(logs.exit_code, 0) << logs.errors;
  EXPECT_THAT(logs.output, HasSubstr("rank 0"));
  grpc::ClientContext context;
  v1::ListStepsRequest request;
  request.set_name(job_.name());
  v1::ListStepsResponse steps;
  ASSERT_OK(
      FromGrpc(v1::JobService::NewStub(cluster_.channel())->ListSteps(&context, request, &steps)));
  ASSERT_THAT(steps.steps(), SizeIs(60));
  for (int i = 0; i < 60; ++i) EXPECT_EQ(steps.steps(i).step(), i + 1);
  EXPECT_GT(steps.steps(30).time().compute(), 0);
  EXPECT_GT(steps.steps(30).time().exchange(), 0);
}

TEST_F(Train, ShowsMetricsAndDropsTheSeriesOfEndedJobs) {
  ASSERT_TRUE(cluster_.AwaitMetric("state=\"SUCCEEDED\",queue=\"default\"} 1"));
  ASSERT_OK_AND_ASSIGN(const std::string metrics,
                       HttpGet(cluster_.coordinator_metrics(), "/metrics"));
  EXPECT_THAT(metrics, HasSubstr("weft_submissions_total"));
  EXPECT_THAT(metrics, HasSubstr("weft_workers"));
  EXPECT_THAT(metrics, Not(ContainsRegex("weft_job_loss\\{")));
}

TEST(Watch, EndsWithTheJobAndItsExitCode) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(TinySpec(cluster.text_path(), 30)));
  const auto watched = cluster.Cli({"watch", "tiny"});
  EXPECT_EQ(watched.exit_code, 0) << watched.errors;
  EXPECT_THAT(watched.output, HasSubstr("SUCCEEDED"));
  EXPECT_THAT(watched.output, HasSubstr("bits/byte"));
  EXPECT_THAT(watched.errors, IsEmpty());
}

TEST(Metrics, OfARunningJobAreServed) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(TinySpec(cluster.text_path(), 1'000'000)));
  ASSERT_OK(cluster.AwaitStep(job.name(), 20));
  for (const char* name : {"weft_job_loss{", "weft_job_step{", "weft_job_tokens_total{",
                           "weft_job_time_seconds_total{", "weft_queue_wait_seconds",
                           "weft_commit_seconds", "weft_worker_heartbeat_age_seconds{"}) {
    // Gauges follow the cluster about once a second.
    EXPECT_TRUE(cluster.AwaitMetric(name)) << name;
  }
  EXPECT_EQ(cluster.Cli({"cancel", "tiny"}).exit_code, 0);
  ASSERT_OK(cluster.AwaitState(job.name(), v1::Job::STATE_CANCELLED));
  EXPECT_EQ(cluster.Cli({"watch", "tiny"}).exit_code, 11);
}

}  // namespace
}  // namespace weft
