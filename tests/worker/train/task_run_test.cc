// Runs of all kinds of models on data of their kind: what they learn, what they report, and that
// bits depend neither on ranks nor on stops.
#include <cmath>

#include "tests/testing/temp_dir.h"
#include "tests/worker/train/gang_fixture.h"
#include "worker/data/basic_sample_source.h"
#include "worker/data/generated/tasks.h"

namespace weft::worker {
namespace {

using testing::GangOptions;
using ::testing::HasSubstr;
using testing::RankRecord;
using testing::RunGang;
using weft::testing::IsOk;
using weft::testing::StatusIs;
using weft::testing::TempDir;

using DataMaker = std::function<std::unique_ptr<SampleSource>()>;

std::unique_ptr<SampleSource> Generated(GeneratedTaskOr task, int64_t samples) {
  WEFT_CHECK_MSG(task.ok(), task.status().ToString());
  auto source = NewGeneratedSource(*std::move(task), {.train_samples = samples});
  WEFT_CHECK_MSG(source.ok(), source.status().ToString());
  return *std::move(source);
}

// Pairs of padded rows; the label says whether both begin with the same token.
class Pairs final : public BasicSampleSource {
 public:
  Pairs()
      : BasicSampleSource({.shape = {.sequence = 6,
                                     .rows = 2,
                                     .vocabulary = 4,
                                     .target_kind = TargetKind::kSample,
                                     .classes = 2,
                                     .padded = true},
                           .train_samples = 18,
                           .validation_samples = 5,
                           .fingerprint = "pairs",
                           .description = "made-up pairs"}) {}
  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    CheckRead(split, sample, into);
    for (int64_t i = 0; i < 12; ++i) {
      const auto at = static_cast<size_t>(i);
      const bool valid = i % 6 < 2 + sample % 4;
      into.valid[at] = valid ? 1 : 0;
      into.tokens[at] = valid ? static_cast<int32_t>(1 + (sample * 7 + i * 5 + i / 6) % 3) : 0;
    }
    into.targets[0] = into.tokens[0] == into.tokens[6] ? 1 : 0;
    return absl::OkStatus();
  }
};

struct Case {
  std::string name;
  ModelConfig model;
  int64_t sequence;
  DataMaker data;
};

std::vector<Case> Cases() {
  const MixerConfig mixer = SoftmaxMixerConfig{.heads = 2, .kv_heads = 2};
  return {
      {.name = "Copying",
       .model = {.vocabulary = 8, .width = 16, .hidden = 24, .layers = {mixer}},
       .sequence = 9,
       .data = [] { return Generated(NewCopyingTask(9, {.symbols = 7}), 12); }},
      {.name = "RepeatedTokens",
       .model = {.kind = ModelKind::kTokenClassifier,
                 .vocabulary = 13,
                 .classes = 2,
                 .width = 16,
                 .hidden = 24,
                 .layers = {mixer}},
       .sequence = 8,
       .data = [] { return Generated(NewRepeatedTokensTask(8, {.symbols = 12}), 12); }},
      {.name = "ListOps",
       .model = {.kind = ModelKind::kClassifier,
                 .vocabulary = 16,
                 .classes = 10,
                 .width = 16,
                 .hidden = 24,
                 .layers = {mixer},
                 .pooling = Pooling::kLeadingToken,
                 .head_hidden = 12,
                 .padded = true},
       .sequence = 24,
       .data = [] { return Generated(NewListOpsTask(24, {.max_tokens = 24}), 12); }},
      {.name = "Pairs",
       .model = {.kind = ModelKind::kTwoTower,
                 .vocabulary = 4,
                 .classes = 2,
                 .width = 16,
                 .hidden = 24,
                 .layers = {mixer},
                 .head_hidden = 12,
                 .padded = true},
       .sequence = 6,
       .data = [] { return std::make_unique<Pairs>(); }},
  };
}

TrainConfig ConfigOf(const Case& each, int64_t steps) {
  TrainConfig config;
  config.model = each.model;
  config.batch = {.sequences = 12, .sequence_length = each.sequence, .shards = 6, .micro_batch = 2};
  config.steps = steps;
  config.seed = 5;
  config.learning_rate = {.schedule = Schedule::kConstant, .peak = 1e-2, .total_steps = steps};
  config.evaluation = {.every_steps = 3, .sequences = 5};
  config.checkpoint = {.every_steps = 0};
  return config;
}

class TaskRunTest : public ::testing::TestWithParam<Case> {};

TEST_P(TaskRunTest, LearnsItsSamplesAndSaysSo) {
  const TempDir folder;
  const auto records = RunGang(ConfigOf(GetParam(), 150),
                               {.checkpoint_root = folder.path(), .data = GetParam().data});
  ASSERT_THAT(records[0].outcome, IsOk());
  const StepResult& first = records[0].steps.front().result;
  const StepResult& last = records[0].steps.back().result;
  // The mean over the targets: that of knowing nothing is the logarithm of the classes, whatever
  // share of the positions has a target.
  const auto classes = static_cast<double>(ClassesOf(GetParam().model));
  EXPECT_NEAR(first.loss, std::log(classes), 0.35);
  EXPECT_LT(last.loss, 0.25 * first.loss);
  ASSERT_FALSE(last.metrics.empty());
  EXPECT_EQ(last.metrics[0].name, kAccuracy);
  EXPECT_GE(last.metrics[0].value, 0.9);
  EXPECT_LE(last.metrics[0].value, 1.0);
  EXPECT_LT(first.metrics[0].value, 0.8);
  const SampleShape shape = GetParam().data()->shape();
  EXPECT_EQ(records[0].steps.front().tokens, 12 * shape.token_count());
}

TEST_P(TaskRunTest, BitsDependNeitherOnRanksNorOnStops) {
  const TrainConfig config = ConfigOf(GetParam(), 5);
  const TempDir folder;
  const auto alone = RunGang(config, {.checkpoint_root = folder.path(), .data = GetParam().data});
  ASSERT_THAT(alone[0].outcome, IsOk());
  for (const int ranks : {2, 3, 5}) {
    const TempDir root;
    // Stops after step 2 and goes on with one rank less.
    const auto first = RunGang(config, {.ranks = ranks,
                                        .checkpoint_root = root.path(),
                                        .stopping_rank = ranks - 1,
                                        .stop_after_step = 1,
                                        .data = GetParam().data});
    ASSERT_THAT(first[0].outcome, IsOk());
    ASSERT_EQ(first[0].outcome->step, 2);
    const auto second = RunGang(config, {.ranks = ranks - 1,
                                         .checkpoint_root = root.path(),
                                         .generation = 2,
                                         .data = GetParam().data});
    ASSERT_THAT(second[0].outcome, IsOk());
    EXPECT_EQ(second[0].outcome->weights_sha256, alone[0].outcome->weights_sha256);
    std::vector<StepSummary> steps = first.back().steps;
    steps.insert(steps.end(), second.back().steps.begin(), second.back().steps.end());
    ASSERT_EQ(steps.size(), alone[0].steps.size());
    for (size_t i = 0; i < steps.size(); ++i) {
      EXPECT_EQ(steps[i].result.loss, alone[0].steps[i].result.loss) << i;
      EXPECT_EQ(steps[i].result.metrics, alone[0].steps[i].result.metrics) << i;
      EXPECT_EQ(steps[i].validation, alone[0].steps[i].validation) << i;
    }
    EXPECT_TRUE(steps[2].validation.has_value());
  }
}

INSTANTIATE_TEST_SUITE_P(All, TaskRunTest, ::testing::ValuesIn(Cases()),
                         [](const auto& each) { return each.param.name; });

TEST(TaskFitTest, OtherDataThanTheModelIsForIsRefused) {
  const std::vector<Case> cases = Cases();
  const auto refusal = [&](const ModelConfig& model, const Case& data) {
    Case mixed = data;
    mixed.model = model;
    const TempDir folder;
    return RunGang(ConfigOf(mixed, 1), {.checkpoint_root = folder.path(), .data = data.data})[0]
        .outcome.status();
  };
  const auto says = [](const std::string& what) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what));
  };
  EXPECT_THAT(
      refusal(cases[0].model, cases[2]),
      says("the model is for sequences with a target at each position, the data has sequences "
           "with one label each: generated ListOps"));
  EXPECT_THAT(refusal(cases[2].model, cases[3]),
              says("the data has pairs of sequences with one label each: made-up pairs"));
  ModelConfig model = cases[2].model;
  model.padded = false;
  EXPECT_THAT(refusal(model, cases[2]), says("takes no padding"));
  model = cases[2].model;
  model.classes = 9;
  EXPECT_THAT(refusal(model, cases[2]), says("10 classes, the model only 9"));
  model = cases[2].model;
  model.vocabulary = 15;
  EXPECT_THAT(refusal(model, cases[2]), says("a vocabulary of 16, the model only of 15"));
}

StepMetric Of(const std::string& name, double value, std::optional<int64_t> layer = {}) {
  return {.name = name, .layer = layer, .value = value};
}

TEST(TaskMetricsTest, AreMeansAndFormsOfTheLoss) {
  const std::vector<MetricName> names = {{"unused", 1}, {"density", 0}, {"density", 3}};
  // 20 nats and 5 right answers; the model adds 0.5; then sums and counts.
  const std::vector<double> sums = {20.0, 5.0, 0.5, 0.0, 0.0, 3.0, 4.0, 1.0, 4.0};
  const TaskMetrics bytes = MetricsOf(sums, 10, LossForm::kBitsPerByte, names);
  EXPECT_EQ(bytes.loss, 2.5);
  EXPECT_EQ(bytes.metrics,
            (std::vector<StepMetric>{Of("accuracy", 0.5), Of("bits_per_byte", 2.0 / std::log(2.0)),
                                     Of("density", 0.5), Of("density", 0.75, 0),
                                     Of("density", 0.25, 3)}));
  const TaskMetrics words = MetricsOf({20.0, 5.0, 0.0}, 10, LossForm::kPerplexity, {});
  EXPECT_EQ(words.metrics,
            (std::vector<StepMetric>{Of("accuracy", 0.5), Of("perplexity", std::exp(2.0))}));
  EXPECT_EQ(MetricsOf({20.0, 5.0, 0.0}, 10, LossForm::kNone, {}).metrics.size(), 1U);
}

}  // namespace
}  // namespace weft::worker
