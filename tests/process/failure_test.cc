// What happens when things die: nothing accepted is lost, nothing hangs, nothing is left behind.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using weft::testing::TestCluster;
using weft::testing::TinySpec;

constexpr int64_t kForever = 10'000'000;

v1::JobSpec EndlessOn(const std::string& text, int workers) {
  v1::JobSpec spec = TinySpec(text, kForever);
  spec.mutable_resources()->set_min_workers(workers);
  spec.mutable_resources()->set_max_workers(workers);
  return spec;
}

bool Exists(pid_t pid) { return kill(pid, 0) == 0; }

bool SoonGone(const std::vector<pid_t>& pids) {
  return weft::testing::Await([&] { return std::none_of(pids.begin(), pids.end(), Exists); },
                              absl::Seconds(5));
}

TEST(Coordinator, LosesNoAcceptedJobWhenKilled) {
  TestCluster cluster;
  ASSERT_OK(cluster.StartCoordinator());
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(TinySpec(cluster.text_path(), 5)));
    names.push_back(job.name());
  }
  cluster.Kill("coordinator", SIGKILL);
  ASSERT_OK(cluster.StartCoordinator());
  for (const std::string& name : names) {
    ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.GetJob(name));
    EXPECT_EQ(job.state(), v1::Job::STATE_QUEUED);
  }
  ASSERT_OK(cluster.StartWorker("w1"));
  ASSERT_OK(cluster.AwaitState(names.front(), v1::Job::STATE_SUCCEEDED));
}

TEST(Coordinator, DoesNotStopTrainingWhileItIsAway) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(2));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(EndlessOn(cluster.text_path(), 2)));
  ASSERT_OK(cluster.AwaitStep(job.name(), 10));
  const auto ranks = cluster.Descendants("w1", "weft-rank");
  ASSERT_EQ(ranks.size(), 1U);
  cluster.Kill("coordinator", SIGKILL);
  ASSERT_OK(cluster.StartCoordinator());
  ASSERT_OK_AND_ASSIGN(const v1::Job adopted, cluster.AwaitJob(job.name(), [](const v1::Job& j) {
    return j.state() == v1::Job::STATE_RUNNING && j.last_step().step() > 10;
  }));
  EXPECT_EQ(adopted.generation(), 1);
  EXPECT_EQ(cluster.Descendants("w1", "weft-rank"), ranks) << "the same process went on";
}

TEST(Worker, LeavesNothingBehindWhenKilled) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(2));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(EndlessOn(cluster.text_path(), 2)));
  ASSERT_OK(cluster.AwaitStep(job.name(), 5));
  std::vector<pid_t> pids;
  for (const char* program : {"weft-rank", "weft-relay", "orterun", "orted", "weft-rsh"}) {
    for (const char* worker : {"w1", "w2"}) {
      for (const pid_t pid : cluster.Descendants(worker, program)) pids.push_back(pid);
    }
  }
  EXPECT_GE(pids.size(), 5U) << "two ranks, two relays, a launcher";
  cluster.Kill("w1", SIGKILL);
  cluster.Kill("w2", SIGKILL);
  EXPECT_TRUE(SoonGone(pids));
  ASSERT_OK_AND_ASSIGN(const v1::Job waiting,
                       cluster.AwaitState(job.name(), v1::Job::STATE_QUEUED));
  EXPECT_THAT(waiting.reason(), HasSubstr("2"));
  const std::vector<std::string> segments = cluster.SharedMemory();
  EXPECT_FALSE(segments.empty());
  // A worker sweeps what its earlier incarnation left.
  ASSERT_OK(cluster.StartWorker("w1"));
  ASSERT_OK(cluster.StartWorker("w2"));
  ASSERT_OK(cluster.AwaitStep(job.name(), 20));
  for (const std::string& name : segments) {
    EXPECT_FALSE(std::filesystem::exists("/dev/shm/" + name)) << name;
  }
}

TEST(Relay, DeathEndsTheGenerationAndTheNextOneGoesOn) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(2));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(EndlessOn(cluster.text_path(), 2)));
  ASSERT_OK_AND_ASSIGN(const v1::Job before, cluster.AwaitStep(job.name(), 30));
  auto relays = cluster.Descendants("w1", "weft-relay");
  ASSERT_EQ(relays.size(), 1U);
  kill(relays.front(), SIGKILL);
  ASSERT_OK_AND_ASSIGN(const v1::Job after, cluster.AwaitJob(job.name(), [](const v1::Job& j) {
    return j.generation() == 2 && j.state() == v1::Job::STATE_RUNNING;
  }));
  ASSERT_OK(cluster.AwaitStep(job.name(), before.last_step().step() + 10));
}

TEST(Job, IsRestartedOnlyAsOftenAsItsSpecSays) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  v1::JobSpec spec = EndlessOn(cluster.text_path(), 1);
  spec.mutable_retry()->set_max_retries(1);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(spec));
  for (int64_t generation = 1; generation <= 2; ++generation) {
    ASSERT_OK(cluster.AwaitJob(job.name(), [=](const v1::Job& j) {
      return j.generation() == generation && j.state() == v1::Job::STATE_RUNNING;
    }));
    const auto ranks = cluster.Descendants("w1", "weft-rank");
    ASSERT_EQ(ranks.size(), 1U);
    kill(ranks.front(), SIGSEGV);
  }
  ASSERT_OK_AND_ASSIGN(const v1::Job failed, cluster.AwaitState(job.name(), v1::Job::STATE_FAILED));
  EXPECT_THAT(failed.reason(), HasSubstr("SIGSEGV"));
  EXPECT_EQ(cluster.Cli({"watch", job.name()}).exit_code, 10);
}

TEST(Job, ThatRunsAgainSaysWhatFailedLastAlsoAfterTheCoordinatorsDeath) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(EndlessOn(cluster.text_path(), 1)));
  ASSERT_OK_AND_ASSIGN(const v1::Job before, cluster.AwaitStep(job.name(), 1));
  EXPECT_FALSE(before.has_last_failure());
  const auto ranks = cluster.Descendants("w1", "weft-rank");
  ASSERT_EQ(ranks.size(), 1U);
  kill(ranks.front(), SIGKILL);
  const auto runs_again = [](const v1::Job& j) {
    return j.generation() == 2 && j.state() == v1::Job::STATE_RUNNING;
  };
  ASSERT_OK_AND_ASSIGN(v1::Job again, cluster.AwaitJob(job.name(), runs_again));
  const v1::Failure failure = again.last_failure();
  EXPECT_EQ(failure.generation(), 1);
  EXPECT_EQ(failure.worker(), "w1");
  EXPECT_TRUE(failure.has_rank());
  EXPECT_EQ(failure.rank(), 0);
  EXPECT_EQ(failure.cause(), "rank_failed");
  EXPECT_EQ(failure.reason(), "worker w1: rank 0 was killed by SIGKILL");
  EXPECT_GE(failure.time().seconds(), job.create_time().seconds());

  cluster.Kill("coordinator", SIGKILL);
  ASSERT_OK(cluster.StartCoordinator());
  ASSERT_OK_AND_ASSIGN(again, cluster.AwaitJob(job.name(), runs_again));
  EXPECT_EQ(again.last_failure().SerializeAsString(), failure.SerializeAsString());

  const std::string text = "ago in generation 1: worker w1: rank 0 was killed by SIGKILL";
  EXPECT_THAT(cluster.Cli({"get", "job", job.name()}).output, HasSubstr(text));
  EXPECT_THAT(cluster.Cli({"get", "job", job.name(), "-o", "wide"}).output, HasSubstr(text));
  EXPECT_THAT(cluster.Cli({"explain", job.name()}).output, HasSubstr("last failure "));
  EXPECT_THAT(cluster.Cli({"explain", job.name()}).output, HasSubstr(text));
  EXPECT_THAT(cluster.Cli({"get", "job", job.name(), "-o", "json"}).output,
              HasSubstr("\"cause\": \"rank_failed\""));
  EXPECT_THAT(cluster.Cli({"get", "job", job.name(), "-o", "yaml"}).output,
              HasSubstr("cause: rank_failed"));
}

TEST(Worker, SavesItsJobsWhenAskedToStop) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  v1::JobSpec spec = EndlessOn(cluster.text_path(), 1);
  spec.mutable_checkpoint()->set_every_steps(0);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(spec));
  ASSERT_OK(cluster.AwaitStep(job.name(), 20));
  cluster.Kill("w1", SIGTERM);
  EXPECT_EQ(cluster.AwaitExit("w1", absl::Seconds(1)), 0);
  ASSERT_OK_AND_ASSIGN(const v1::Job saved, cluster.AwaitState(job.name(), v1::Job::STATE_QUEUED));
  EXPECT_GE(saved.checkpoint_step(), 20);
  EXPECT_EQ(saved.generation(), 1) << "the worker that leaves did not get it back";
  EXPECT_FALSE(saved.has_last_failure());
  ASSERT_OK(cluster.StartWorker("w1"));
  ASSERT_OK_AND_ASSIGN(const v1::Job again, cluster.AwaitState(job.name(), v1::Job::STATE_RUNNING));
  EXPECT_EQ(again.generation(), 2);
  EXPECT_FALSE(again.has_last_failure());
}

}  // namespace
}  // namespace weft
