#include "worker/train/training_run.h"

#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/train/gang_fixture.h"
#include "worker/comm/faulty_exchange.h"
#include "worker/comm/local_exchange.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using testing::GangOptions;
using ::testing::HasSubstr;
using testing::RankRecord;
using testing::RunGang;
using testing::TinyRun;
using weft::testing::IsOk;
using weft::testing::StatusIs;
using weft::testing::TempDir;

// The gang's weights at the end; all ranks must have them.
std::string HashOf(const std::vector<RankRecord>& records) {
  for (const RankRecord& record : records) {
    EXPECT_THAT(record.outcome, IsOk());
    if (!record.outcome.ok()) return "";
    EXPECT_EQ(record.outcome->weights_sha256, records[0].outcome->weights_sha256);
  }
  return records[0].outcome->weights_sha256;
}

// Writes down how long each exchange might have taken: about half a minute or a whole one.
class PatienceRecorder final : public Exchange {
 public:
  PatienceRecorder(std::unique_ptr<Exchange> exchange, std::vector<int64_t>* seconds)
      : exchange_(std::move(exchange)), seconds_(*seconds) {}
  absl::Status Prepare(const Membership& membership, absl::Time deadline) override {
    return exchange_->Prepare(membership, deadline);
  }
  absl::Status Reduce(kernels::Tensor& bucket, ReduceOp op, absl::Time deadline) override {
    seconds_.push_back(deadline - absl::Now() > absl::Seconds(40) ? 60 : 30);
    return exchange_->Reduce(bucket, op, deadline);
  }
  absl::Status Broadcast(kernels::Tensor& tensor, int root, absl::Time deadline) override {
    return exchange_->Broadcast(tensor, root, deadline);
  }
  void Abort(const absl::Status& why) override { exchange_->Abort(why); }

 private:
  std::unique_ptr<Exchange> exchange_;
  std::vector<int64_t>& seconds_;
};

// The machine's disk as one rank sees it: what is asked of a path may fail or be missing.
class OddDisk final : public FileSystem {
 public:
  absl::Status Write(absl::string_view path, absl::Span<const absl::string_view> pieces) override {
    return real_.Write(path, pieces);
  }
  absl::Status Sync(absl::string_view path) override { return real_.Sync(path); }
  absl::Status Rename(absl::string_view from, absl::string_view to) override {
    return real_.Rename(from, to);
  }
  absl::StatusOr<std::string> Read(absl::string_view path, int64_t offset,
                                   int64_t max_bytes) override {
    if (on_read) WEFT_RETURN_IF_ERROR(on_read(path));
    return real_.Read(path, offset, max_bytes);
  }
  absl::StatusOr<std::vector<DirectoryEntry>> List(absl::string_view directory) override {
    WEFT_ASSIGN_OR_RETURN(std::vector<DirectoryEntry> entries, real_.List(directory));
    std::erase_if(entries, [&](const DirectoryEntry& entry) { return entry.name == unlisted; });
    return entries;
  }
  absl::Status CreateDirectories(absl::string_view directory) override {
    return real_.CreateDirectories(directory);
  }
  absl::Status RemoveTree(absl::string_view path) override { return real_.RemoveTree(path); }

  std::function<absl::Status(absl::string_view path)> on_read;
  std::string unlisted;  // no directory shows an entry of this name

 private:
  FileSystem& real_ = RealFileSystem();
};

std::vector<RankRecord> Train(const TrainConfig& config, GangOptions options) {
  const TempDir folder;
  options.checkpoint_root = folder.path();
  return RunGang(config, options);
}

TEST(TrainingRunTest, LossFallsOnTrainingAndHeldOutTokens) {
  const auto records = Train(TinyRun(30), {});
  ASSERT_THAT(records[0].outcome, IsOk());
  const std::vector<StepSummary>& steps = records[0].steps;
  ASSERT_EQ(steps.size(), 30U);
  EXPECT_NEAR(steps.front().result.loss, std::log(16.0), 0.1);  // knows nothing at first
  EXPECT_LT(steps.back().result.loss, 0.7 * steps.front().result.loss);
  ASSERT_TRUE(steps[4].validation.has_value());
  EXPECT_LT(steps.back().validation->loss, 0.8 * steps[4].validation->loss);
  EXPECT_FALSE(steps[3].validation.has_value());
  EXPECT_EQ(steps.back().result.learning_rate, LearningRateAt(TinyRun(30).learning_rate, 30));
  EXPECT_GT(steps.back().time.Total(), absl::ZeroDuration());
}

TEST(TrainingRunTest, WeightsAndLossesAreBitEqualForAnyNumberOfRanksAndThreads) {
  const TrainConfig config = TinyRun(6);
  const auto alone = Train(config, {});
  const std::string hash = HashOf(alone);
  ASSERT_FALSE(hash.empty());
  for (const auto& [ranks, threads] :
       std::vector<std::pair<int, int>>{{1, 2}, {1, 3}, {2, 1}, {3, 2}, {4, 1}, {6, 1}}) {
    const auto gang = Train(config, {.ranks = ranks, .threads = threads});
    EXPECT_EQ(HashOf(gang), hash) << ranks << " ranks of " << threads;
    for (const RankRecord& record : gang) {
      ASSERT_EQ(record.steps.size(), alone[0].steps.size());
      for (size_t i = 0; i < record.steps.size(); ++i) {
        EXPECT_EQ(record.steps[i].result.loss, alone[0].steps[i].result.loss);
        EXPECT_EQ(record.steps[i].result.gradient_norm, alone[0].steps[i].result.gradient_norm);
        EXPECT_EQ(record.steps[i].result.metrics, alone[0].steps[i].result.metrics);
        EXPECT_EQ(record.steps[i].validation, alone[0].steps[i].validation);
      }
    }
  }
}

// Each mechanism by itself, on gangs and through a stop, so that a failure names it. The sketches
// of 16 tokens have whole blocks and unfinished ones.
TEST(TrainingRunTest, EveryMechanismEndsWithTheSameBits) {
  const auto polysketch = [](PolysketchMode mode, PolysketchNorm norm) {
    return PolysketchMixerConfig{
        .heads = 2, .mode = mode, .norm = norm, .sketch_size = 4, .block = 6};
  };
  const auto sbm = [](kernels::SbmSampler sampler) {
    return SbmMixerConfig{.heads = 2, .clusters = 3, .sampler = sampler};
  };
  const std::vector<MixerConfig> mixers = {
      DeltaMixerConfig{.heads = 2},
      SoftmaxMixerConfig{.heads = 2, .kv_heads = 1},
      PerformerMixerConfig{.heads = 2, .feature_count = 6},
      SlimMixerConfig{.heads = 2},
      polysketch(PolysketchMode::kPolynomial, PolysketchNorm::kShared),
      polysketch(PolysketchMode::kRandomSketch, PolysketchNorm::kShared),
      polysketch(PolysketchMode::kLearnedSketch, PolysketchNorm::kNone),
      polysketch(PolysketchMode::kRandomSketchMixed, PolysketchNorm::kShared),
      polysketch(PolysketchMode::kLearnedSketchMixed, PolysketchNorm::kSeparate),
      ScatterbrainMixerConfig{.heads = 2, .support = ScatterbrainWindow{.width = 5}},
      ScatterbrainMixerConfig{.heads = 2, .support = ScatterbrainHash{.rounds = 2, .bucket = 4}},
      ScatterbrainMixerConfig{
          .heads = 2, .support = kernels::BlockPattern{.block = 4, .window = 1, .random = 1}},
      sbm(kernels::SbmSampler::kPoisson),
      sbm(kernels::SbmSampler::kPoissonCopies),
      sbm(kernels::SbmSampler::kExact),
      sbm(kernels::SbmSampler::kDense)};
  for (const MixerConfig& mixer : mixers) {
    SCOPED_TRACE(Canonical(mixer));
    TrainConfig config = TinyRun(4);
    config.model.layers = {mixer, mixer};
    const std::string hash = HashOf(Train(config, {}));
    ASSERT_FALSE(hash.empty());
    for (const int ranks : {2, 3, 4}) {
      EXPECT_EQ(HashOf(Train(config, {.ranks = ranks, .threads = 5 - ranks})), hash) << ranks;
    }
    const TempDir folder;
    RunGang(config, {.ranks = 3,
                     .checkpoint_root = folder.path(),
                     .generation = 1,
                     .stopping_rank = 1,
                     .stop_after_step = 1});
    const auto rest =
        RunGang(config, {.ranks = 2, .checkpoint_root = folder.path(), .generation = 2});
    EXPECT_EQ(rest[0].steps.size(), 2U);
    EXPECT_EQ(HashOf(rest), hash);
  }
}

// Two layers that sample graphs, weighed so much that the loss shows it.
TEST(TrainingRunTest, GraphDensitiesAreMeansOverTheStepAndPartOfTheLoss) {
  TrainConfig config = TinyRun(3);
  const SbmMixerConfig sbm{.heads = 2, .clusters = 3, .density_weight = 0.5};
  config.model.layers = {sbm, DeltaMixerConfig{.heads = 2}, sbm};
  const auto alone = Train(config, {});
  TrainConfig without = config;
  without.model.layers = config.model.layers;
  for (const size_t layer : {0, 2}) {
    std::get<SbmMixerConfig>(without.model.layers[layer]).density_weight = 0;
  }
  const auto unweighed = Train(without, {});
  ASSERT_THAT(alone[0].outcome, IsOk());
  ASSERT_THAT(unweighed[0].outcome, IsOk());
  const StepResult& first = alone[0].steps[0].result;
  std::vector<StepMetric> densities = first.metrics;
  std::erase_if(densities, [](const StepMetric& metric) { return metric.name != kGraphDensity; });
  ASSERT_EQ(densities.size(), 3U);
  EXPECT_EQ(densities[0].layer, std::nullopt);
  EXPECT_EQ(densities[1].layer, 0);
  EXPECT_EQ(densities[2].layer, 2);
  for (const StepMetric& metric : densities) {
    EXPECT_GT(metric.value, 0.05);
    EXPECT_LT(metric.value, 0.5);
  }
  const double both = densities[1].value + densities[2].value;
  EXPECT_NEAR(densities[0].value, both / 2, 1e-12);
  // 0.5 times the mean over three layers, one of which has no graph.
  EXPECT_NEAR(first.loss - unweighed[0].steps[0].result.loss, 0.5 * both / 3, 1e-9);
  EXPECT_NE(HashOf(alone), HashOf(unweighed));

  for (const int ranks : {2, 5}) {
    const auto gang = Train(config, {.ranks = ranks});
    EXPECT_EQ(HashOf(gang), HashOf(alone));
    for (size_t i = 0; i < gang[0].steps.size(); ++i) {
      const StepResult& one = alone[0].steps[i].result;
      const StepResult& other = gang[0].steps[i].result;
      EXPECT_EQ(other.loss, one.loss);
      ASSERT_EQ(other.metrics.size(), one.metrics.size());
      for (size_t j = 0; j < one.metrics.size(); ++j) {
        EXPECT_EQ(other.metrics[j].value, one.metrics[j].value);
      }
    }
  }
}

// Whatever samples share a pass: its places without one have graphs, too, which nobody asked for.
TEST(TrainingRunTest, GraphDensitiesOfAnEvaluationAreThoseOfItsSamples) {
  kernels::RegisterCpuKernels();
  kernels::RegisterCpuAttention();
  ASSERT_OK_AND_ASSIGN(const auto device, kernels::NewCpuDevice({.threads = 1}));
  const RealClock clock;
  TimeLedger time(clock, TimeCause::kEvaluation);
  const auto evaluate = [&](TrainConfig config, const SampleSource& data,
                            int64_t micro_batch) -> absl::StatusOr<std::vector<StepMetric>> {
    config.batch.micro_batch = micro_batch;
    LocalExchange exchange;
    WEFT_RETURN_IF_ERROR(exchange.Prepare(
        {.job = "one", .generation = Generation(1), .relay_channel = ""}, absl::InfiniteFuture()));
    WEFT_ASSIGN_OR_RETURN(
        const std::unique_ptr<Trainer> trainer,
        Trainer::Create(config, data,
                        {.device = *device, .exchange = exchange, .time = time, .clock = clock}));
    WEFT_ASSIGN_OR_RETURN(std::optional<TaskMetrics> metrics, trainer->Evaluate());
    if (!metrics) return absl::NotFoundError("no validation split");
    std::erase_if(metrics->metrics,
                  [](const StepMetric& metric) { return metric.name != kGraphDensity; });
    return std::move(metrics->metrics);
  };
  TrainConfig config = TinyRun(2);
  config.model.layers = {SbmMixerConfig{.heads = 2, .clusters = 3}};
  config.batch = {.sequences = 4, .sequence_length = 16, .shards = 1};
  const auto data = testing::RuleSource(/*sequence=*/16, 4000);
  ASSERT_OK_AND_ASSIGN(const auto single, evaluate(config, *data, 1));
  ASSERT_OK_AND_ASSIGN(const auto by_four, evaluate(config, *data, 4));  // 4 of 7, and 3
  ASSERT_EQ(single.size(), 2U);                                          // of the layer and of all
  ASSERT_EQ(by_four.size(), 2U);
  // The sums differ in how they are grouped.
  for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(by_four[i].value, single[i].value, 1e-12);
}

TEST(TrainingRunTest, AFixedGangEndsWithItsOwnWeightsEachTime) {
  TrainConfig config = TinyRun(20);
  const std::string exact = HashOf(Train(config, {.ranks = 3}));
  config.reproducibility = Reproducibility::kFixedGang;
  const std::string of_three = HashOf(Train(config, {.ranks = 3}));
  EXPECT_EQ(HashOf(Train(config, {.ranks = 3})), of_three);
  EXPECT_NE(of_three, exact);
  EXPECT_NE(Fingerprint(config), Fingerprint(TinyRun(20)));
}

// Weights of a large model take longer than an agent waits for the start of its ranks.
TEST(TrainingRunTest, TheStartIsOverBeforeTheModelIsMade) {
  GangOptions options;
  options.data = [] { return testing::RuleSource(/*sequence=*/8, 4000); };  // the model's have 16
  const auto records = Train(TinyRun(1), options);
  EXPECT_THAT(records[0].outcome, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(records[0].phases, ::testing::ElementsAre(RunPhase::kStarting, RunPhase::kRestoring));
}

TEST(TrainingRunTest, SeedAndShardsDecideTheWeights) {
  TrainConfig config = TinyRun(2);
  const std::string hash = HashOf(Train(config, {}));
  EXPECT_EQ(HashOf(Train(config, {})), hash);
  config.seed = 6;
  EXPECT_NE(HashOf(Train(config, {})), hash);
}

TEST(TrainingRunTest, StoppedAndResumedOnOtherRanksEndsWithTheSameWeights) {
  TrainConfig config = TinyRun(9);
  config.checkpoint.every_steps = 4;
  const std::string hash = HashOf(Train(config, {}));

  const TempDir folder;
  // The wish of one rank stops all of them after the next step.
  const auto first = RunGang(config, {.ranks = 3,
                                      .checkpoint_root = folder.path(),
                                      .generation = 1,
                                      .stopping_rank = 2,
                                      .stop_after_step = 1});
  for (const RankRecord& record : first) {
    ASSERT_THAT(record.outcome, IsOk());
    EXPECT_EQ(record.outcome->end, RunOutcome::End::kSaved);
    EXPECT_EQ(record.outcome->step, 2);
    EXPECT_EQ(record.phases.back(), RunPhase::kSaving);
  }
  const auto second = RunGang(config, {.ranks = 2,
                                       .checkpoint_root = folder.path(),
                                       .generation = 2,
                                       .stopping_rank = 0,
                                       .stop_after_step = 5});
  EXPECT_EQ(second[1].steps.front().result.step, 3);
  EXPECT_EQ(second[1].outcome->step, 6);
  const auto third =
      RunGang(config, {.ranks = 4, .checkpoint_root = folder.path(), .generation = 3});
  EXPECT_EQ(HashOf(third), hash);
  EXPECT_EQ(third[0].outcome->end, RunOutcome::End::kFinished);
  EXPECT_THAT(third[0].notices, ::testing::Contains(HasSubstr("resumed after step 6")));
  // Checkpoints: at the stops, every fourth step, at the end; by the lead alone.
  ASSERT_EQ(second[0].checkpoints.size(), 2U);
  EXPECT_EQ(second[0].checkpoints[0].step, 4);
  EXPECT_EQ(second[0].checkpoints[1].step, 6);
  EXPECT_TRUE(second[1].checkpoints.empty());
  EXPECT_EQ(third[0].checkpoints.back().weights_sha256, hash);
}

// Whole sequences, slices, and slices from the middle of the run on: the same losses up to
// rounding.
TEST(TrainingRunTest, ASharedOutOptimizerChangesNoBitAndMayComeAndGo) {
  TrainConfig whole = TinyRun(9);
  whole.checkpoint.every_steps = 4;
  TrainConfig shared_out = whole;
  shared_out.sharded_optimizer = true;
  EXPECT_EQ(Fingerprint(shared_out), Fingerprint(whole));
  const std::string hash = HashOf(Train(whole, {}));
  for (const int ranks : {1, 2, 3, 5}) {
    EXPECT_EQ(HashOf(Train(shared_out, {.ranks = ranks})), hash) << ranks;
  }

  const TempDir folder;
  RunGang(shared_out, {.ranks = 3,
                       .checkpoint_root = folder.path(),
                       .generation = 1,
                       .stopping_rank = 1,
                       .stop_after_step = 2});
  RunGang(whole, {.ranks = 2,
                  .checkpoint_root = folder.path(),
                  .generation = 2,
                  .stopping_rank = 0,
                  .stop_after_step = 4});
  const auto last =
      RunGang(shared_out, {.ranks = 4, .checkpoint_root = folder.path(), .generation = 3});
  EXPECT_EQ(HashOf(last), hash);
  EXPECT_THAT(last[3].notices, ::testing::Contains(HasSubstr("resumed after step 5")));
}

TEST(TrainingRunTest, SlicesMayBeginInTheMiddleOfARun) {
  TrainConfig config = TinyRun(12);
  config.model.layers = {SlimMixerConfig{.heads = 2}, DeltaMixerConfig{.heads = 2}};
  const auto whole = Train(config, {});
  const std::string hash = HashOf(whole);
  const auto expect_same = [&](const std::vector<StepSummary>& steps, size_t first) {
    ASSERT_EQ(steps.size(), 12 - first);
    for (size_t i = 0; i < steps.size(); ++i) {
      const double want = whole[0].steps[first + i].result.loss;
      EXPECT_NEAR(steps[i].result.loss, want, 1e-4 * want) << first + i;
    }
  };
  TrainConfig sliced = config;
  sliced.slice_length = 5;  // three slices of 16 tokens and a rest
  const auto slices = Train(sliced, {});
  EXPECT_NE(HashOf(slices), hash);  // rounded elsewhere: other code has run
  expect_same(slices[0].steps, 0);

  const TempDir folder;
  RunGang(config, {.checkpoint_root = folder.path(),
                   .generation = 1,
                   .stopping_rank = 0,
                   .stop_after_step = 5});
  const auto second = RunGang(sliced, {.checkpoint_root = folder.path(), .generation = 2});
  ASSERT_THAT(second[0].outcome, IsOk());
  expect_same(second[0].steps, 6);
}

TEST(TrainingRunTest, ARunThatHasFinishedFinishesAgainWithoutAStep) {
  const TempDir folder;
  const auto first = RunGang(TinyRun(3), {.checkpoint_root = folder.path(), .generation = 1});
  const auto again =
      RunGang(TinyRun(3), {.ranks = 2, .checkpoint_root = folder.path(), .generation = 2});
  EXPECT_EQ(HashOf(again), HashOf(first));
  EXPECT_TRUE(again[0].steps.empty());
  EXPECT_TRUE(again[0].checkpoints.empty());
}

TEST(TrainingRunTest, ALostRankEndsTheGangAndTheNextGenerationEndsWithTheSameWeights) {
  TrainConfig config = TinyRun(8);
  config.checkpoint.every_steps = 3;
  const std::string hash = HashOf(Train(config, {}));

  const TempDir folder;
  GangOptions options = {.ranks = 3, .checkpoint_root = folder.path(), .generation = 1};
  // Each step makes three exchanges (exponents, sums, values) and two come before the first step:
  // the 16th call is in the fifth step.
  options.wrap_exchange = [](int rank, std::unique_ptr<Exchange> exchange) {
    if (rank != 1) return exchange;
    return std::unique_ptr<Exchange>(
        std::make_unique<FaultyExchange>(std::move(exchange), [](int call) {
          return call == 16 ? absl::UnavailableError("pulled the plug") : absl::OkStatus();
        }));
  };
  const auto first = RunGang(config, options);
  for (const RankRecord& record : first) {
    EXPECT_FALSE(record.outcome.ok());
    EXPECT_EQ(record.steps.size(), 4U);
  }
  EXPECT_THAT(first[1].outcome.status().message(), HasSubstr("pulled the plug"));

  const auto second =
      RunGang(config, {.ranks = 2, .checkpoint_root = folder.path(), .generation = 2});
  EXPECT_EQ(second[0].steps.front().result.step, 4);  // redone from the checkpoint of step 3
  EXPECT_EQ(HashOf(second), hash);
}

TEST(TrainingRunTest, ARankWithoutMemoryTellsTheOthersAtOnce) {
  const auto records = Train(TinyRun(8), {.ranks = 2, .starved_rank = 1});
  EXPECT_THAT(records[1].outcome, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(records[0].outcome,
              StatusIs(absl::StatusCode::kAborted, HasSubstr("ended without a word")));
}

// Runs whose first generation left checkpoints of steps 3 and 6, and whose last one must end with
// the weights of `whole`. Rank 1 of the generations between sees its disk through `disk`.
class RanksThatSeeTheirCheckpointsDifferently : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.checkpoint.every_steps = 3;
    whole_ = HashOf(Train(config_, {}));
    RunGang(config_, {.checkpoint_root = folder_.path(),
                      .generation = 1,
                      .stopping_rank = 0,
                      .stop_after_step = 5});
  }
  std::vector<RankRecord> Run(int64_t generation, OddDisk& disk) {
    GangOptions options = {.ranks = 2, .checkpoint_root = folder_.path(), .generation = generation};
    options.files = [&disk](int rank) -> FileSystem& {
      return rank == 1 ? disk : RealFileSystem();
    };
    return RunGang(config_, options);
  }
  // The generation before ended because rank 1 could not load what rank 0 had found.
  void ExpectEndedByRank1(const std::vector<RankRecord>& records, absl::string_view why) {
    EXPECT_THAT(
        records[1].outcome,
        StatusIs(absl::StatusCode::kUnavailable,
                 AllOf(HasSubstr("rank 1 cannot load the checkpoint of step 6"), HasSubstr(why))));
    EXPECT_THAT(records[0].outcome, StatusIs(absl::StatusCode::kAborted));
  }
  void ExpectTheNextOneEndsAsOneRun(int64_t generation) {
    OddDisk sound;
    const auto records = Run(generation, sound);
    EXPECT_EQ(records[0].steps.front().result.step, 7);
    EXPECT_EQ(HashOf(records), whole_);
  }

  static constexpr absl::string_view kNewest = "step_000000000006.g0000000001";

  TrainConfig config_ = TinyRun(8);
  std::string whole_;
  TempDir folder_;
};

TEST_F(RanksThatSeeTheirCheckpointsDifferently, AReadThatFailsOnceEndsOneGeneration) {
  OddDisk disk;
  bool failed = false;
  disk.on_read = [&failed](absl::string_view path) {
    if (!absl::EndsWith(path, kWeightsFile) || std::exchange(failed, true)) return absl::OkStatus();
    return absl::UnknownError("Input/output error");
  };
  ExpectEndedByRank1(Run(2, disk), "Input/output error");
  ExpectTheNextOneEndsAsOneRun(3);
}

TEST_F(RanksThatSeeTheirCheckpointsDifferently, ACheckpointThatOneLacksEndsTheGeneration) {
  OddDisk disk;
  disk.on_read = [](absl::string_view path) {
    if (!absl::StrContains(path, kNewest)) return absl::OkStatus();
    return absl::NotFoundError("No such file");
  };
  ExpectEndedByRank1(Run(2, disk), "No such file");
  ExpectTheNextOneEndsAsOneRun(3);
}

TEST_F(RanksThatSeeTheirCheckpointsDifferently, AListingWithoutTheNewestOneMakesNoDifference) {
  OddDisk disk;
  disk.unlisted = std::string(kNewest);
  const auto records = Run(2, disk);
  EXPECT_EQ(records[1].steps.front().result.step, 7);
  EXPECT_EQ(HashOf(records), whole_);
}

TEST(TrainingRunTest, RanksWaitForEachOtherAsLongAsTheirStepsSuggest) {
  std::vector<int64_t> seconds;  // on rank 1
  GangOptions options = {.ranks = 2};
  options.wrap_exchange = [&seconds](int rank, std::unique_ptr<Exchange> exchange) {
    if (rank != 1) return exchange;
    return std::unique_ptr<Exchange>(
        std::make_unique<PatienceRecorder>(std::move(exchange), &seconds));
  };
  HashOf(Train(TinyRun(7), options));  // evaluates after steps 5 and 7
  // Two exchanges before the first step, three a step, one an evaluation, one at the end.
  const std::vector<int64_t> start(2 + 4 * 3, 60);  // the fixture's time for what is not known
  const std::vector<int64_t> known(3, 30);          // steps of milliseconds
  const std::vector<int64_t> evaluation(1, 60);
  const std::vector<int64_t> behind_it(3, 60);
  std::vector<int64_t> expected = start;
  for (const auto& part :
       {known, evaluation, behind_it, known, evaluation, std::vector<int64_t>{60}}) {
    expected.insert(expected.end(), part.begin(), part.end());
  }
  EXPECT_EQ(seconds, expected);
}

TEST(TrainingRunTest, AStepWithoutAFiniteGradientIsSkippedByAllRanks) {
  TrainConfig config = TinyRun(3);
  // The first update throws the weights far out: from then on no gradient is finite.
  config.learning_rate = {
      .schedule = Schedule::kConstant, .peak = 3e37, .warmup_steps = 0, .total_steps = 3};
  const auto gang = Train(config, {.ranks = 2});
  const auto alone = Train(config, {});
  for (const auto* records : {&gang, &alone}) {
    for (const RankRecord& record : *records) {
      ASSERT_EQ(record.steps.size(), 3U);
      EXPECT_FALSE(record.steps[0].result.skipped);
      EXPECT_TRUE(record.steps[1].result.skipped);
      EXPECT_TRUE(record.steps[2].result.skipped);
      EXPECT_FALSE(std::isfinite(record.steps[2].result.gradient_norm));
    }
  }
  EXPECT_EQ(HashOf(gang), HashOf(alone));
}

TEST(TrainingRunTest, RefusesAGangThatHasMoreRanksThanShards) {
  const auto records = Train(TinyRun(2), {.ranks = 7});
  EXPECT_THAT(records[6].outcome,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("6 shards")));
}

TEST(TrainingRunTest, RanksWithDifferentDataDoNotBegin) {
  const auto records = Train(TinyRun(2), {.ranks = 3, .odd_rank = 1});
  for (const RankRecord& record : records) {
    EXPECT_THAT(record.outcome, StatusIs(absl::StatusCode::kFailedPrecondition,
                                         HasSubstr("rank 1 differs from rank 0")));
    EXPECT_TRUE(record.steps.empty());
  }
}

TEST(TrainingRunTest, RefusesACheckpointOfAnotherConfiguration) {
  const TempDir folder;
  RunGang(TinyRun(2), {.checkpoint_root = folder.path(), .generation = 1});
  TrainConfig other = TinyRun(2);
  other.seed = 77;
  const auto records = RunGang(other, {.checkpoint_root = folder.path(), .generation = 2});
  EXPECT_THAT(records[0].outcome,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("configuration")));
}

TEST(TrainingRunTest, ALaterGenerationFencesAnEarlierOneOff) {
  const TempDir folder;
  RunGang(TinyRun(2), {.checkpoint_root = folder.path(), .generation = 4});
  const auto late = RunGang(TinyRun(2), {.checkpoint_root = folder.path(), .generation = 3});
  EXPECT_THAT(late[0].outcome, StatusIs(absl::StatusCode::kAborted));
}

}  // namespace
}  // namespace weft::worker
