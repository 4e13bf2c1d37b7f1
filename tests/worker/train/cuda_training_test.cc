// Training on a GPU: the loss goes where it goes on CPU, and the same job gives the same bits
// again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/device/host_values.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/gradient_norm/gradient_norm.h"
#include "tests/testing/gpu.h"
#include "tests/worker/train/gang_fixture.h"
#include "worker/comm/local_exchange.h"
#include "worker/train/trainer.h"

namespace weft::worker {
namespace {

using kernels::DType;

struct Course {
  std::vector<double> losses;
  std::vector<double> weights;  // after the last step
  int64_t replayed_passes = 0;
};

absl::StatusOr<Course> Train(const TrainConfig& config, kernels::Device& device,
                             bool captures_passes = true) {
  const std::unique_ptr<SampleSource> data =
      testing::RuleSource(config.batch.sequence_length, 40000);
  LocalExchange exchange;
  const RealClock clock;
  WEFT_RETURN_IF_ERROR(exchange.Prepare(
      {.job = "gpu", .generation = Generation(1), .relay_channel = ""}, absl::InfiniteFuture()));
  TimeLedger time(clock, TimeCause::kCompute);
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                        Trainer::Create(config, *data,
                                        {.device = device,
                                         .exchange = exchange,
                                         .time = time,
                                         .clock = clock,
                                         .captures_passes = captures_passes}));
  Course course;
  for (int64_t step = 0; step < config.steps; ++step) {
    WEFT_ASSIGN_OR_RETURN(const StepResult result, trainer->RunStep(/*wants_stop=*/false));
    course.losses.push_back(result.loss);
  }
  WEFT_ASSIGN_OR_RETURN(course.weights,
                        kernels::ReadValues(trainer->weights().block(), trainer->stream()));
  course.replayed_passes = trainer->replayed_passes();
  return course;
}

TrainConfig SmallModel(std::vector<MixerConfig> layers) {
  TrainConfig config = testing::TinyRun(/*steps=*/30);
  config.model.width = 128;
  config.model.hidden = 192;
  config.model.layers = std::move(layers);
  config.batch = {.sequences = 8, .sequence_length = 128, .shards = 4, .micro_batch = 2};
  config.learning_rate.peak = 4e-3;
  return config;
}

struct Mixers {
  std::string name;
  std::vector<MixerConfig> layers;
  double allowed = 0.03;  // of the first loss
  int64_t slice_length = 0;
  MlpKind mlp = MlpKind::kSwiglu;
  NormKind norm = NormKind::kRms;
  bool biases = false;
};
void PrintTo(const Mixers& mixers, std::ostream* out) { *out << mixers.name; }

class CudaTrainingTest : public ::testing::TestWithParam<Mixers> {};

TEST_P(CudaTrainingTest, LossesFollowThoseOfTheCpuAndBitsAreTheSameAgain) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  kernels::RegisterCpuKernels();
  kernels::RegisterCpuAttention();
  kernels::RegisterCudaKernels();
  kernels::RegisterCudaAttention();
  TrainConfig config = SmallModel(GetParam().layers);
  config.slice_length = GetParam().slice_length;
  config.model.mlp = GetParam().mlp;
  config.model.norm = GetParam().norm;
  config.model.biases.projections = GetParam().biases;
  config.model.biases.output = GetParam().biases;
  config.model.biases.mlp = GetParam().biases;
  ASSERT_OK_AND_ASSIGN(const auto cpu, kernels::NewCpuDevice({.threads = 4}));
  ASSERT_OK_AND_ASSIGN(const Course there, Train(config, *cpu));
  ASSERT_OK_AND_ASSIGN(const Course here, Train(config, *cuda));
  ASSERT_LT(there.losses.back(), 0.7 * there.losses.front());  // something was learned
  for (size_t step = 0; step < here.losses.size(); ++step) {
    // Weights and activations are rounded to 2^-9 of themselves. The loss of the first step feels
    // that alone, those of the next two the gradients; then weights have gone different ways.
    const double share = step < 3 ? 0.01 : GetParam().allowed;
    const double allowed = step == 0 ? 0.005 : share * there.losses.front();
    EXPECT_NEAR(here.losses[step], there.losses[step], allowed) << "step " << step;
  }
  ASSERT_OK_AND_ASSIGN(const Course again, Train(config, *cuda));
  EXPECT_EQ(again.losses, here.losses);
  EXPECT_TRUE(again.weights == here.weights);

  // Of the four passes of a step the last hands gradients over; the first step captures nothing.
  const bool is_captured = !HasDraws(config.model) && config.slice_length == 0;
  EXPECT_EQ(here.replayed_passes, is_captured ? 3 * (config.steps - 1) : 0);
  if (!is_captured) return;
  ASSERT_OK_AND_ASSIGN(const Course op_by_op, Train(config, *cuda, /*captures_passes=*/false));
  EXPECT_EQ(op_by_op.replayed_passes, 0);
  EXPECT_EQ(op_by_op.losses, here.losses);
  EXPECT_TRUE(op_by_op.weights == here.weights);
}

// Of one shard every pass is captured, each with its own place for losses.
TEST(CudaTrainingTest, PassesOfOneShardGiveTheSameBitsWhenTheyAreReplayed) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kBf16);
  kernels::RegisterCudaKernels();
  kernels::RegisterCudaAttention();
  TrainConfig config = SmallModel({DeltaMixerConfig{.heads = 2}, SoftmaxMixerConfig{.heads = 2}});
  config.batch.shards = 1;
  ASSERT_OK_AND_ASSIGN(const Course replayed, Train(config, *cuda));
  ASSERT_OK_AND_ASSIGN(const Course op_by_op, Train(config, *cuda, /*captures_passes=*/false));
  EXPECT_EQ(replayed.replayed_passes, 4 * (config.steps - 1));
  EXPECT_EQ(op_by_op.replayed_passes, 0);
  EXPECT_EQ(op_by_op.losses, replayed.losses);
  EXPECT_TRUE(op_by_op.weights == replayed.weights);
}

TEST(CudaTrainingTest, WhatWaitsOrNeedsNewWorkingSpaceIsNotCaptured) {
  WEFT_CUDA_OR_SKIP(cuda, DType::kF32);
  kernels::RegisterCudaKernels();
  ASSERT_OK_AND_ASSIGN(const auto stream, cuda->NewStream());
  ASSERT_OK_AND_ASSIGN(kernels::Tensor x, kernels::NewTensor(*cuda, DType::kF32, {100}));
  const auto fill = [&](double value) { return kernels::Fill(*stream, x, value); };
  ASSERT_OK_AND_ASSIGN(const std::vector<double> zeros, kernels::ReadValues(x, *stream));

  EXPECT_EQ(stream->Capture([&] {
    EXPECT_OK(fill(1));
    return stream->Synchronize();
  }),
            nullptr);
  ASSERT_OK_AND_ASSIGN(kernels::Tensor sum, kernels::NewTensor(*cuda, DType::kF64, {1}));
  const auto sum_of_squares = [&] { return kernels::SumOfSquares(*stream, x, sum); };
  EXPECT_EQ(stream->Capture(sum_of_squares), nullptr) << "needs working space";
  EXPECT_EQ(kernels::ReadValues(x, *stream).value(), zeros) << "nothing was enqueued";

  ASSERT_OK(fill(2));
  ASSERT_OK(sum_of_squares());
  const std::unique_ptr<kernels::CapturedOps> captured = stream->Capture(sum_of_squares);
  ASSERT_NE(captured, nullptr);
  ASSERT_OK(fill(3));
  ASSERT_OK(stream->Replay(*captured));
  EXPECT_EQ(kernels::ReadValues(sum, *stream).value(), std::vector<double>{900});
  EXPECT_TRUE(captured->IsValid());
  ASSERT_OK_AND_ASSIGN(kernels::Tensor large,
                       kernels::NewTensor(*cuda, DType::kF32, {int64_t{1} << 26}));
  ASSERT_OK(kernels::SumOfSquares(*stream, large, sum));  // working space moves
  EXPECT_FALSE(captured->IsValid());
}

INSTANTIATE_TEST_SUITE_P(
    All, CudaTrainingTest,
    ::testing::Values(
        Mixers{.name = "delta",
               .layers = {DeltaMixerConfig{.heads = 2}, DeltaMixerConfig{.heads = 2}}},
        Mixers{.name = "delta_portable",  // heads of 32, which no Hopper kernel takes
               .layers = {DeltaMixerConfig{.heads = 4},
                          DeltaMixerConfig{.heads = 4, .convolution_taps = 0}}},
        Mixers{.name = "delta_slices",
               .layers = {DeltaMixerConfig{.heads = 2}, DeltaMixerConfig{.heads = 4}},
               .allowed = 0.12,  // whole sequences of these layers go as far from the CPU's
               .slice_length = 48},
        Mixers{.name = "slim_slices",
               .layers = {SlimMixerConfig{.heads = 2}, DeltaMixerConfig{.heads = 2}},
               .allowed = 0.12,
               .slice_length = 48},
        Mixers{.name = "gpt2_style",
               .layers = {SoftmaxMixerConfig{.heads = 2, .kv_heads = 2, .rotary_base = 0},
                          SoftmaxMixerConfig{.heads = 2, .kv_heads = 1}},
               .mlp = MlpKind::kGeluTanh,
               .norm = NormKind::kLayer,
               .biases = true},
        Mixers{.name = "slim",
               .layers = {SlimMixerConfig{.heads = 2}, SlimMixerConfig{.heads = 4}}},
        Mixers{.name = "performer",
               .layers = {PerformerMixerConfig{.heads = 2, .feature_count = 64},
                          PerformerMixerConfig{
                              .heads = 2, .features = FeatureFunction::kRelu, .feature_count = 0}},
               .allowed = 0.06},  // exponentials of rounded projections
        Mixers{.name = "polysketch",
               .layers = {PolysketchMixerConfig{.heads = 2, .block = 32},
                          PolysketchMixerConfig{.heads = 2,
                                                .mode = PolysketchMode::kPolynomial,
                                                .norm = PolysketchNorm::kShared}},
               .allowed = 0.06},  // fourth powers of rounded scores
        Mixers{.name = "polysketch_random",
               .layers = {PolysketchMixerConfig{.heads = 2,
                                                .mode = PolysketchMode::kRandomSketchMixed,
                                                .norm = PolysketchNorm::kShared,
                                                .block = 32},
                          PolysketchMixerConfig{.heads = 2,
                                                .mode = PolysketchMode::kLearnedSketch,
                                                .norm = PolysketchNorm::kNone,
                                                .block = 32}},
               .allowed = 0.06},
        Mixers{.name = "sbm",
               .layers = {SbmMixerConfig{.heads = 2, .clusters = 16},
                          SbmMixerConfig{.heads = 2,
                                         .clusters = 16,
                                         .sampler = kernels::SbmSampler::kExact,
                                         .straight_through = kernels::SbmStraightThrough::kLogit}},
               .allowed = 0.06},  // rounded memberships draw a few other edges
        Mixers{.name = "softmax",
               .layers = {SoftmaxMixerConfig{.heads = 2, .kv_heads = 2}, SoftmaxMixerConfig{}}},
        Mixers{.name = "narrow_softmax",
               .layers = {SoftmaxMixerConfig{.heads = 8, .kv_heads = 2},
                          SoftmaxMixerConfig{.heads = 8, .kv_heads = 8}}},
        Mixers{.name = "delta_and_window",
               .layers = {DeltaMixerConfig{.heads = 2},
                          SoftmaxMixerConfig{.heads = 2, .kv_heads = 2, .window = 32}}},
        Mixers{.name = "scatterbrain",
               .layers = {ScatterbrainMixerConfig{.heads = 2, .support = ScatterbrainWindow{32}},
                          ScatterbrainMixerConfig{.heads = 4,
                                                  .support = kernels::BlockPattern{.block = 16}}},
               .allowed = 0.06},
        Mixers{.name = "scatterbrain_hash",
               .layers = {ScatterbrainMixerConfig{
                   .heads = 2, .support = ScatterbrainHash{2, 16}, .feature_count = 32}},
               .allowed = 0.06}),  // rounded projections sort a few other pairs together
    [](const ::testing::TestParamInfo<Mixers>& tested) { return tested.param.name; });

}  // namespace
}  // namespace weft::worker
