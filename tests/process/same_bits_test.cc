// The promise of the house: the same job ends with the same weights, bit for bit, on any number of
// workers and through failures. Hashes are compared, not tolerances.

#include <gtest/gtest.h>

#include <csignal>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using weft::testing::TestCluster;
using weft::testing::TinySpec;

constexpr int64_t kSteps = 120;

v1::JobSpec SpecFor(const std::string& text, int min_workers, int max_workers) {
  v1::JobSpec spec = TinySpec(text, kSteps);
  spec.mutable_resources()->set_min_workers(min_workers);
  spec.mutable_resources()->set_max_workers(max_workers);
  return spec;
}

class SameBits : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(cluster_.Start(4)); }

  // The weights after an undisturbed run on exactly `workers` workers.
  std::string UndisturbedHash(int workers) {
    auto job = cluster_.Submit(SpecFor(cluster_.text_path(), workers, workers));
    EXPECT_OK(job);
    if (!job.ok()) return "";
    auto done = cluster_.AwaitState(job->name(), v1::Job::STATE_SUCCEEDED);
    EXPECT_OK(done);
    return done.ok() ? done->weights_hash() : "";
  }

  TestCluster cluster_;
};

TEST_F(SameBits, OnOneTwoThreeAndFourWorkers) {
  const std::string one = UndisturbedHash(1);
  ASSERT_EQ(one.size(), 64U);
  for (const int workers : {2, 3, 4}) EXPECT_EQ(UndisturbedHash(workers), one) << workers;
}

TEST_F(SameBits, ThroughTheDeathOfARank) {
  const std::string undisturbed = UndisturbedHash(1);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(SpecFor(cluster_.text_path(), 2, 3)));
  ASSERT_OK_AND_ASSIGN(const v1::Job running, cluster_.AwaitStep(job.name(), 45));
  ASSERT_FALSE(running.workers().empty());
  const auto ranks = cluster_.Descendants("w1", "weft-rank");
  ASSERT_EQ(ranks.size(), 1U);
  kill(ranks.front(), SIGKILL);
  ASSERT_OK_AND_ASSIGN(const v1::Job done,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_EQ(done.generation(), 2);
  EXPECT_EQ(done.recoveries(), 1);
  EXPECT_EQ(done.weights_hash(), undisturbed);
}

TEST_F(SameBits, ThroughTheLossOfAWorkerAndTheReturnToFewer) {
  const std::string undisturbed = UndisturbedHash(1);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(SpecFor(cluster_.text_path(), 1, 4)));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 45));
  cluster_.Kill("w2", SIGKILL);
  ASSERT_OK_AND_ASSIGN(const v1::Job done,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_GE(done.generation(), 2);
  EXPECT_EQ(done.weights_hash(), undisturbed);
}

TEST_F(SameBits, ThroughTheDeathOfTheCoordinator) {
  const std::string undisturbed = UndisturbedHash(1);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(SpecFor(cluster_.text_path(), 2, 2)));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 30));
  cluster_.Kill("coordinator", SIGKILL);
  ASSERT_OK(cluster_.StartCoordinator());
  ASSERT_OK_AND_ASSIGN(const v1::Job done,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_EQ(done.generation(), 1) << "the running gang was adopted, not restarted";
  EXPECT_EQ(done.weights_hash(), undisturbed);
}

TEST_F(SameBits, ThroughPauseResumeAndDrain) {
  const std::string undisturbed = UndisturbedHash(1);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(SpecFor(cluster_.text_path(), 1, 2)));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 25));
  ASSERT_EQ(cluster_.Cli({"pause", job.name()}).exit_code, 0);
  ASSERT_OK_AND_ASSIGN(const v1::Job paused,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_PAUSED));
  EXPECT_GE(paused.checkpoint_step(), 25) << "a pause saves where the job stands";
  ASSERT_EQ(cluster_.Cli({"resume", job.name()}).exit_code, 0);
  ASSERT_OK_AND_ASSIGN(const v1::Job again,
                       cluster_.AwaitStep(job.name(), paused.last_step().step() + 10));
  ASSERT_FALSE(again.workers().empty());
  ASSERT_EQ(cluster_.Cli({"drain", again.workers(0)}).exit_code, 0);
  ASSERT_OK_AND_ASSIGN(const v1::Job done,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_EQ(done.weights_hash(), undisturbed);
}

}  // namespace
}  // namespace weft
