// The promise of the house: the same job ends with the same weights, bit for bit, on any number of
// workers and through failures. Hashes are compared, not tolerances.

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using weft::testing::TestCluster;
using weft::testing::TinySpec;

constexpr int64_t kSteps = 120;

// One layer of each mechanism, in each of its kinds that draw or add up in their own way.
void UseEveryMechanism(v1::ModelSpec& model) {
  model.clear_mixers();
  model.add_mixers()->mutable_delta()->set_heads(2);
  model.add_mixers()->mutable_softmax()->set_heads(2);
  model.add_mixers()->mutable_performer()->set_heads(2);
  model.mutable_mixers(2)->mutable_performer()->set_feature_count(8);
  model.add_mixers()->mutable_slim()->set_heads(2);
  for (const auto mode :
       {v1::PolysketchSpec::MODE_LEARNED_SKETCH_MIXED, v1::PolysketchSpec::MODE_RANDOM_SKETCH}) {
    v1::PolysketchSpec& sketch = *model.add_mixers()->mutable_polysketch();
    sketch.set_heads(2);
    sketch.set_mode(mode);
    sketch.set_sketch_size(4);
    sketch.set_block(8);
  }
  model.add_mixers()->mutable_scatterbrain()->set_heads(2);
  model.mutable_mixers(6)->mutable_scatterbrain()->mutable_window()->set_width(8);
  model.add_mixers()->mutable_scatterbrain()->set_heads(2);
  model.mutable_mixers(7)->mutable_scatterbrain()->mutable_hash()->set_bucket(8);
  for (const auto sampler : {v1::SbmSpec::SAMPLER_POISSON, v1::SbmSpec::SAMPLER_EXACT}) {
    v1::SbmSpec& sbm = *model.add_mixers()->mutable_sbm();
    sbm.set_heads(2);
    sbm.set_clusters(4);
    sbm.set_sampler(sampler);
  }
  model.set_layers(model.mixers_size());
}

v1::JobSpec SpecFor(const std::string& text, int min_workers, int max_workers,
                    bool every_mechanism = false) {
  v1::JobSpec spec = TinySpec(text, kSteps);
  if (every_mechanism) {
    UseEveryMechanism(*spec.mutable_model());
    spec.mutable_training()->set_steps(60);
  }
  spec.mutable_resources()->set_min_workers(min_workers);
  spec.mutable_resources()->set_max_workers(max_workers);
  return spec;
}

class SameBits : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(cluster_.Start(4)); }

  // The weights after an undisturbed run on exactly `workers` workers.
  std::string UndisturbedHash(int workers, bool every_mechanism = false) {
    auto job = cluster_.Submit(SpecFor(cluster_.text_path(), workers, workers, every_mechanism));
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

TEST_F(SameBits, OfEveryMechanismOnAnyNumberOfWorkersAndThroughADeath) {
  const std::string one = UndisturbedHash(1, /*every_mechanism=*/true);
  ASSERT_EQ(one.size(), 64U);
  for (const int workers : {2, 3, 4}) EXPECT_EQ(UndisturbedHash(workers, true), one) << workers;

  ASSERT_OK_AND_ASSIGN(const v1::Job job,
                       cluster_.Submit(SpecFor(cluster_.text_path(), 2, 3, true)));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 25));
  const auto ranks = cluster_.Descendants("w1", "weft-rank");
  ASSERT_EQ(ranks.size(), 1U);
  kill(ranks.front(), SIGKILL);
  ASSERT_OK_AND_ASSIGN(const v1::Job done,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_EQ(done.recoveries(), 1);
  EXPECT_EQ(done.weights_hash(), one);
  // What its graphs were like has come all the way.
  std::vector<int32_t> layers;
  for (const v1::StepMetric& metric : done.last_step().metrics()) {
    if (metric.name() != "graph_density") continue;
    layers.push_back(metric.has_layer() ? metric.layer() : -1);
    EXPECT_GT(metric.value(), 0.0);
  }
  EXPECT_EQ(layers, (std::vector<int32_t>{-1, 8, 9}));
}

TEST_F(SameBits, OnSeveralDevicesOfOneWorkerAndThroughADeath) {
  const std::string one = UndisturbedHash(1);
  // 3 devices: a gang of its own that needs no MPI. With another worker, one of 4 ranks.
  TestCluster wide;
  ASSERT_OK(wide.StartCoordinator());
  ASSERT_OK(wide.StartWorker("w1", {"--threads", "3", "--devices", "3"}));
  ASSERT_OK_AND_ASSIGN(const v1::Job alone, wide.Submit(SpecFor(wide.text_path(), 1, 1)));
  ASSERT_OK(wide.AwaitStep(alone.name(), 45));
  EXPECT_EQ(wide.Descendants("w1", "weft-relay").size(), 1U);
  EXPECT_EQ(wide.Descendants("w1", "orterun").size(), 0U);
  const auto ranks = wide.Descendants("w1", "weft-rank");
  ASSERT_EQ(ranks.size(), 3U);
  kill(ranks.back(), SIGKILL);
  ASSERT_OK_AND_ASSIGN(const v1::Job done, wide.AwaitState(alone.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_EQ(done.recoveries(), 1);
  EXPECT_EQ(done.weights_hash(), one);

  ASSERT_OK(wide.StartWorker("w2"));
  v1::JobSpec spec = SpecFor(wide.text_path(), 2, 2);
  spec.mutable_memory()->set_sharded_optimizer(true);
  ASSERT_OK_AND_ASSIGN(const v1::Job both, wide.Submit(spec));
  ASSERT_OK_AND_ASSIGN(const v1::Job ended, wide.AwaitState(both.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_EQ(ended.weights_hash(), one);
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
