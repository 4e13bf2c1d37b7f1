// What people and machines get wrong: one clear sentence, a documented exit code, nothing lost,
// nobody else disturbed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using weft::testing::ProgramResult;
using weft::testing::TestCluster;
using weft::testing::TinySpec;

// The reason with which a job on this text fails.
std::string FailureOn(TestCluster& cluster, const std::string& path) {
  auto job = cluster.Submit(TinySpec(path, 5));
  EXPECT_OK(job);
  if (!job.ok()) return "";
  auto failed = cluster.AwaitState(job->name(), v1::Job::STATE_FAILED);
  EXPECT_OK(failed);
  if (!failed.ok()) return "";
  EXPECT_EQ(failed->generation(), 1) << "an error in the data is not retried";
  return failed->reason();
}

TEST(BadData, FailsTheJobWithThePathAndTheReason) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  const std::string folder = cluster.directory();
  EXPECT_THAT(FailureOn(cluster, folder + "/missing"), HasSubstr(folder + "/missing"));
  std::ofstream(folder + "/empty").flush();
  EXPECT_THAT(FailureOn(cluster, folder + "/empty"), HasSubstr("empty"));
  std::ofstream(folder + "/short") << "abc";
  EXPECT_THAT(FailureOn(cluster, folder + "/short"), AllOf(HasSubstr("3"), HasSubstr("33")));
  // Nobody else was disturbed.
  ASSERT_OK_AND_ASSIGN(const v1::Job good, cluster.Submit(TinySpec(cluster.text_path(), 5)));
  ASSERT_OK(cluster.AwaitState(good.name(), v1::Job::STATE_SUCCEEDED));
}

TEST(Batch, BeyondAllMemoryFailsTheJobWithASentence) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  v1::JobSpec spec = TinySpec(cluster.text_path(), 5);
  spec.mutable_data()->mutable_induction_heads();
  spec.mutable_training()->set_batch_size(2'000'000'000);  // more bytes than there are addresses
  spec.mutable_training()->set_sequence_length(1 << 20);
  spec.mutable_retry()->set_max_retries(0);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(spec));
  ASSERT_OK_AND_ASSIGN(const v1::Job failed, cluster.AwaitState(job.name(), v1::Job::STATE_FAILED));
  EXPECT_THAT(failed.reason(), HasSubstr("no host memory for the lists"));
}

TEST(SecondCoordinator, OnTheSameStateIsRefused) {
  TestCluster cluster;
  ASSERT_OK(cluster.StartCoordinator());
  const ProgramResult second =
      cluster.RunProgram("weft-coordinator", {"--state-dir", cluster.state_directory(), "--listen",
                                              "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"});
  EXPECT_EQ(second.exit_code, 5) << second.errors;
  EXPECT_THAT(second.errors, HasSubstr(cluster.state_directory()));
  EXPECT_EQ(cluster.Cli({"get", "jobs"}).exit_code, 0) << "the first one serves on";
}

TEST(SecondWorker, OnTheSameStateIsRefused) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  const ProgramResult second = cluster.RunProgram(
      "weft-worker", {"--coordinator", cluster.address(), "--name", "other", "--state-dir",
                      cluster.directory() + "/w1", "--metrics-listen", "127.0.0.1:0"});
  EXPECT_EQ(second.exit_code, 5) << second.errors;
  EXPECT_THAT(second.errors, HasSubstr("/w1"));
}

TEST(Port, InUseIsNamed) {
  TestCluster cluster;
  ASSERT_OK(cluster.StartCoordinator());
  const ProgramResult second = cluster.RunProgram(
      "weft-coordinator", {"--state-dir", cluster.directory() + "/other", "--listen",
                           cluster.address(), "--metrics-listen", "127.0.0.1:0"});
  EXPECT_EQ(second.exit_code, 1) << second.errors;
  EXPECT_THAT(second.errors, HasSubstr(cluster.address()));
}

TEST(Database, ThatIsDamagedIsRefusedAndLeftAlone) {
  TestCluster cluster;
  ASSERT_OK(cluster.StartCoordinator());
  ASSERT_OK(cluster.Submit(TinySpec(cluster.text_path(), 5)));
  cluster.Kill("coordinator", SIGTERM);
  const std::string path = cluster.state_directory() + "/weft.db";
  const std::string garbage(1 << 16, 'x');
  std::ofstream(path, std::ios::binary | std::ios::trunc) << garbage;
  const ProgramResult result =
      cluster.RunProgram("weft-coordinator", {"--state-dir", cluster.state_directory(), "--listen",
                                              "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"});
  EXPECT_EQ(result.exit_code, 1) << result.errors;
  EXPECT_THAT(result.errors, HasSubstr("weft.db"));
  EXPECT_EQ(std::filesystem::file_size(path), garbage.size());
}

TEST(Checkpoint, ThatIsDamagedGivesWayToTheOneBefore) {
  TestCluster cluster;
  ASSERT_OK(cluster.Start(1));
  v1::JobSpec spec = TinySpec(cluster.text_path(), 10'000'000);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(spec));
  ASSERT_OK(
      cluster.AwaitJob(job.name(), [](const v1::Job& j) { return j.checkpoint_step() >= 40; }));
  ASSERT_EQ(cluster.Cli({"pause", job.name()}).exit_code, 0);
  ASSERT_OK_AND_ASSIGN(const v1::Job paused, cluster.AwaitState(job.name(), v1::Job::STATE_PAUSED));
  const ProgramResult listed = cluster.Cli({"get", "checkpoints", job.name(), "-o", "json"});
  const size_t start = listed.output.find("\"path\": \"") + 9;
  const std::string newest = listed.output.substr(start, listed.output.find('"', start) - start);
  std::fstream weights(newest + "/weights.safetensors",
                       std::ios::in | std::ios::out | std::ios::binary);
  ASSERT_TRUE(weights) << newest;
  weights.seekp(2000);
  weights.put('\x7f');
  weights.put('\x01');
  weights.close();
  ASSERT_EQ(cluster.Cli({"resume", job.name()}).exit_code, 0);
  ASSERT_OK(cluster.AwaitJob(job.name(), [&](const v1::Job& j) {
    return j.state() == v1::Job::STATE_RUNNING && j.last_step().step() > paused.checkpoint_step();
  }));
  EXPECT_THAT(cluster.Cli({"logs", job.name()}).output, HasSubstr("weights.safetensors"));
}

TEST(Disk, ThatIsFullFailsTheJobAndSparesTheRest) {
  TestCluster cluster;
  const std::string mounted = cluster.directory() + "/full";
  std::filesystem::create_directory(mounted);
  if (mount("tmpfs", mounted.c_str(), "tmpfs", 0, "size=64k") != 0) {
    ASSERT_NE(geteuid(), 0U) << "root cannot mount a tmpfs here";
    GTEST_SKIP() << "mounting a small file system needs root";
  }
  ASSERT_OK(cluster.StartCoordinator({"--checkpoint-root", mounted}));
  ASSERT_OK(cluster.StartWorker("w1"));
  v1::JobSpec spec = TinySpec(cluster.text_path(), 30);
  spec.mutable_retry()->set_max_retries(1);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster.Submit(spec));
  auto failed = cluster.AwaitState(job.name(), v1::Job::STATE_FAILED);
  EXPECT_OK(failed);
  if (failed.ok()) {
    EXPECT_THAT(failed->reason(), HasSubstr("space"));
  }
  EXPECT_EQ(cluster.Cli({"get", "jobs"}).exit_code, 0);
  umount2(mounted.c_str(), MNT_DETACH);
}

TEST(Flags, ThatAreUnknownEndWithTwo) {
  TestCluster cluster;
  for (const char* program : {"weft", "weft-coordinator", "weft-worker"}) {
    const ProgramResult result = cluster.RunProgram(program, {"--no-such-flag"});
    EXPECT_EQ(result.exit_code, 2) << program;
    EXPECT_THAT(result.errors, HasSubstr("no-such-flag")) << program;
    EXPECT_THAT(result.errors, Not(HasSubstr("terminate called"))) << program;
  }
}

}  // namespace
}  // namespace weft
