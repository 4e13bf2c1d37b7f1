// Tasks of every kind through the real programs: what jobs learn and report, that a mismatch is one
// sentence, and that failures change no bit of a classifier either.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "proto/spec/parse.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_cluster.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using weft::testing::ProgramResult;
using weft::testing::TestCluster;

v1::JobSpec Parse(const std::string& text) {
  v1::JobSpec spec;
  EXPECT_THAT(spec::ParseSpec(text, spec), ::testing::IsEmpty()) << text;
  return spec;
}

double MetricOf(const google::protobuf::RepeatedPtrField<v1::StepMetric>& metrics,
                const std::string& name) {
  for (const v1::StepMetric& metric : metrics) {
    if (metric.name() == name) return metric.value();
  }
  ADD_FAILURE() << "no metric " << name;
  return -1;
}

class Tasks : public ::testing::Test {
 protected:
  absl::StatusOr<v1::Job> Run(const v1::JobSpec& spec) {
    WEFT_ASSIGN_OR_RETURN(const v1::Job job, cluster_.Submit(spec));
    return cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED);
  }

  TestCluster cluster_;
};

// Eight expressions, which it learns by heart.
constexpr char kListOps[] = R"(
name: listops
model:
  kind: classifier
  width: 32
  layers: 1
  mlp_width: 64
  positions: learned
  max_positions: 65
  norm: layer
  mlp: gelu
  pooling: leading_token
  mixers: [{softmax: {heads: 2, rotary_base: 0}}]
data: {listops: {}, train_samples: 8}
training:
  {steps: 120, batch_size: 8, shards: 4, sequence_length: 64, seed: 3,
   learning_rate: {peak: 5e-3, schedule: constant}}
checkpoint: {every_steps: 20}
evaluation: {every_steps: 0, sequences: 8}
retry: {initial_backoff: 50ms, max_backoff: 1s}
)";

TEST_F(Tasks, AClassifierLearnsExpressionsByHeartThroughTheDeathOfARank) {
  ASSERT_OK(cluster_.Start(2));
  ASSERT_OK_AND_ASSIGN(const v1::Job undisturbed, Run(Parse(kListOps)));
  EXPECT_EQ(undisturbed.spec().model().classes(), 10);
  EXPECT_LT(undisturbed.last_step().loss(), 0.1);
  EXPECT_EQ(MetricOf(undisturbed.last_step().metrics(), "accuracy"), 1.0);
  const double held_out = MetricOf(undisturbed.validation_metrics(), "accuracy");
  EXPECT_EQ(held_out * 8, static_cast<int>(held_out * 8));  // of eight answers

  v1::JobSpec spec = Parse(kListOps);
  spec.mutable_resources()->set_min_workers(2);
  spec.mutable_resources()->set_max_workers(2);
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(spec));
  ASSERT_OK(cluster_.AwaitStep(job.name(), 45));
  const auto ranks = cluster_.Descendants("w1", "weft-rank");
  ASSERT_EQ(ranks.size(), 1U);
  kill(ranks.front(), SIGKILL);
  ASSERT_OK_AND_ASSIGN(const v1::Job done,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_EQ(done.recoveries(), 1);
  EXPECT_EQ(done.weights_hash(), undisturbed.weights_hash());
  EXPECT_EQ(done.last_step().loss(), undisturbed.last_step().loss());
  EXPECT_EQ(MetricOf(done.validation_metrics(), "accuracy"), held_out);

  const ProgramResult sample = cluster_.Cli({"sample", "listops-1", "--prompt", "[MAX 1 2 ]"});
  EXPECT_NE(sample.exit_code, 0);
  EXPECT_THAT(sample.errors, HasSubstr("the model is a classifier, which gives classes"));
}

TEST_F(Tasks, TwoTowersLearnPairs) {
  ASSERT_OK(cluster_.Start(1));
  const std::string folder = cluster_.directory() + "/pairs";
  std::filesystem::create_directory(folder);
  const std::string words[] = {"graphs", "parsing", "speech"};
  for (const char* split : {"train", "eval", "test"}) {
    std::ofstream file(absl::StrCat(folder, "/new_aan_pairs.", split, ".tsv"), std::ios::binary);
    for (int i = 0; i < 9; ++i) {
      file << (i / 3 == i % 3 ? "1.0" : "0.0") << "\ta" << i << "\tb" << i << "\t" << words[i / 3]
           << " \"of\" many kinds\t" << words[i % 3] << " \n";
    }
  }
  v1::JobSpec spec = Parse(absl::StrCat(R"(
name: pairs
model: {kind: two_tower, width: 32, layers: 1, mlp_width: 64, mixers: [{softmax: {heads: 2}}]}
training:
  {steps: 80, batch_size: 9, shards: 3, sequence_length: 24,
   learning_rate: {peak: 5e-3, schedule: constant}}
checkpoint: {every_steps: 0}
evaluation: {every_steps: 0, sequences: 9}
data: {aan: {folder: )",
                                        folder, "}}\n"));
  ASSERT_OK_AND_ASSIGN(const v1::Job done, Run(spec));
  EXPECT_EQ(MetricOf(done.last_step().metrics(), "accuracy"), 1.0);
  EXPECT_EQ(MetricOf(done.validation_metrics(), "accuracy"), 1.0);  // the same pairs
  EXPECT_EQ(done.last_step().tokens(), 2 * 9 * 24);
}

TEST_F(Tasks, ACopyingJobTellsHowMuchItCopies) {
  ASSERT_OK(cluster_.Start(1));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(Parse(R"(
name: copy
model:
  {vocab_size: 8, width: 32, layers: 2, mlp_width: 64, positions: learned, max_positions: 9,
   mixers: [{softmax: {heads: 2, rotary_base: 0}}]}
data: {copying: {}, train_samples: 16}
training:
  {steps: 150, batch_size: 16, shards: 4, sequence_length: 9,
   learning_rate: {peak: 5e-3, schedule: constant}}
checkpoint: {every_steps: 0}
evaluation: {every_steps: 50, sequences: 16}
)")));
  ASSERT_OK_AND_ASSIGN(const v1::Job done,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_SUCCEEDED));
  EXPECT_NEAR(done.first_loss(), 2.08, 0.3);
  EXPECT_GE(MetricOf(done.last_step().metrics(), "accuracy"), 0.99);
  EXPECT_NEAR(MetricOf(done.last_step().metrics(), "perplexity"), 1.0, 0.1);
  MetricOf(done.validation_metrics(), "accuracy");
  const ProgramResult jobs = cluster_.Cli({"get", "jobs"});
  EXPECT_THAT(jobs.output, AllOf(HasSubstr("METRICS"), HasSubstr("accuracy 1.000")));
  EXPECT_THAT(cluster_.Cli({"watch", "copy-1"}).output, HasSubstr("validation accuracy "));
  EXPECT_THAT(
      cluster_.Cli({"logs", "copy-1"}).output,
      AllOf(HasSubstr(" | accuracy 1 | perplexity 1"), HasSubstr(" | validation accuracy")));
}

TEST_F(Tasks, DataOfAnotherKindIsOneSentence) {
  const std::string path = cluster_.directory() + "/job.yaml";
  std::ofstream(path) << R"(
name: mismatch
model: {width: 16, layers: 1, mixers: [{softmax: {heads: 1}}]}
data: {listops: {}}
training: {steps: 1, batch_size: 4, sequence_length: 64}
)";
  const ProgramResult result = cluster_.RunProgram("weft", {"validate", path});
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_THAT(result.errors, AllOf(HasSubstr("model.kind"),
                                   HasSubstr("must be classifier for data.listops, which has one "
                                             "label a sample; is language_model"),
                                   Not(HasSubstr("vocab_size"))));
}

TEST_F(Tasks, MissingFilesAreNamedWithWhatBelongsThere) {
  ASSERT_OK(cluster_.Start(1));
  const std::string folder = cluster_.directory() + "/imdb";
  v1::JobSpec spec = Parse(absl::StrCat(R"(
name: reviews
model: {kind: classifier, width: 16, layers: 1, mixers: [{softmax: {heads: 1}}]}
training: {steps: 1, batch_size: 4, sequence_length: 64}
data: {imdb: {folder: )",
                                        folder, "}}\n"));
  ASSERT_OK_AND_ASSIGN(const v1::Job job, cluster_.Submit(spec));
  ASSERT_OK_AND_ASSIGN(const v1::Job failed,
                       cluster_.AwaitState(job.name(), v1::Job::STATE_FAILED));
  EXPECT_THAT(failed.reason(), HasSubstr(folder + "/train/"));
  EXPECT_EQ(failed.generation(), 1);  // nobody tries again what cannot work
}

}  // namespace
}  // namespace weft
