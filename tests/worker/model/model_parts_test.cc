// The small parts of a model: configuration, layout of the parameters, initial weights, scratch,
// sampling.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "tests/worker/model/model_fixture.h"
#include "worker/model/mixers/polysketch/sketch.h"
#include "worker/model/sampler.h"

namespace weft::worker {
namespace {

using ::testing::HasSubstr;
using testing::NewCpu;
using testing::NewReference;
using testing::ToHost;
using weft::testing::StatusIs;

TEST(ModelConfigTest, NamesAllProblemsAtOnce) {
  ModelConfig config{.vocabulary = 1, .width = 30, .hidden = 0, .layers = {}};
  config.layers = {DeltaMixerConfig{.heads = 4, .convolution_taps = 17},
                   SoftmaxMixerConfig{.heads = 2, .kv_heads = 3},
                   SoftmaxMixerConfig{.heads = 1, .kv_heads = 1, .window = -1, .rotary_base = 1}};
  const absl::Status status = Validate(config);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
  for (const char* part :
       {"vocabulary is 1", "hidden is 0", "layers[0].heads is 4", "layers[0].convolution_taps",
        "layers[1]: the head width 15 must be even", "layers[1].kv_heads is 3", "layers[2].window",
        "layers[2].rotary_base"}) {
    EXPECT_THAT(status.message(), HasSubstr(part));
  }
  EXPECT_THAT(Validate(ModelConfig{}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least one mixer")));
}

TEST(ModelConfigTest, MixersAreToldWhatTheyCannotDo) {
  ModelConfig config{.width = 12,
                     .layers = {DeltaMixerConfig{.heads = 2},
                                SoftmaxMixerConfig{.heads = 2, .kv_heads = 2, .head_width = 4}},
                     .output_projection = false,
                     .dropout = {.attention = 0.1}};
  EXPECT_THAT(Validate(config).message(),
              ::testing::AllOf(HasSubstr("layers[0]: delta has no attention weights to drop"),
                               HasSubstr("layers[1]: without an output projection the 2 heads of "
                                         "4 must fill the width 12")));
}

TEST(ModelConfigTest, CustomaryHiddenWidthIsTwoThirdsOfFourTimesRoundedUp) {
  EXPECT_EQ(DefaultHidden(1024), 2816);
  EXPECT_EQ(DefaultHidden(2048), 5632);
  EXPECT_EQ(DefaultHidden(96), 256);
}

// The published sizes of the DeltaNet models, parameter by parameter.
TEST(LanguageModelTest, HasTheParametersOfThePublishedModels) {
  ModelConfig config{.vocabulary = 32000, .width = 1024, .hidden = 2816};
  config.layers.assign(24, DeltaMixerConfig{.heads = 8});
  EXPECT_EQ(testing::Must(LanguageModel::Create(config))->layout().parameter_count(), 374362112);
  config.width = 2048;
  config.hidden = 5632;
  config.layers.assign(24, DeltaMixerConfig{.heads = 16});
  EXPECT_EQ(testing::Must(LanguageModel::Create(config))->layout().parameter_count(), 1365677056);
}

// The learned sketch of a layer: two towers of two stages, hidden width 8 r.
TEST(SketchTest, HasThePublishedParameters) {
  for (const auto& [size, want] : {std::pair<int64_t, int64_t>{32, 82304}, {64, 262656}}) {
    ParameterLayout layout;
    Sketch({.sketch_size = size}, {.width = 128}, /*head_width=*/64, "sketch", layout);
    EXPECT_EQ(layout.parameter_count(), want);
  }
}

// Weights (phi_q . phi_k)^2 of random queries and keys at the start: of size one, where powers of
// degree 4 have 12,300. (Means differ by an order of magnitude between draws of the network; 4.4
// and 2.4 were measured elsewhere.)
TEST(SketchTest, LearnedWeightsAreSmallAtTheStart) {
  constexpr int64_t kHead = 64;
  constexpr int64_t kVectors = 60;  // of each side
  constexpr uint64_t kNetworks = 5;
  for (const int64_t size : {32, 64}) {
    ParameterLayout layout(WeightScheme::kLecun);
    const Sketch sketch({.sketch_size = size}, {.width = 128}, kHead, "sketch", layout);
    const auto device = NewCpu(1);
    const auto stream = testing::Must(device->NewStream());
    const auto tensor = [&](const kernels::Shape& shape) {
      return testing::Must(kernels::NewTensor(*device, kernels::DType::kF32, shape));
    };
    double mean = 0;
    for (uint64_t seed = 1; seed <= kNetworks; ++seed) {
      ParameterBlock block(layout, tensor({layout.block_count()}));
      ASSERT_OK(InitialiseWeights(seed, *stream, block));
      std::vector<double> normals(static_cast<size_t>(2 * kVectors * kHead));
      kernels::FillNormal(seed, {}, 0, 0, absl::MakeSpan(normals));
      const std::vector<float> rows(normals.begin(), normals.end());
      kernels::Tensor x = tensor({2 * kVectors, kHead});
      ASSERT_OK(device->CopyFromHost(x, rows.data(), *stream));
      kernels::Tensor features = tensor({2 * kVectors, size});
      Scratch scratch(*device);
      ASSERT_OK(
          sketch.Forward({.stream = *stream, .scratch = scratch, .weights = block}, x, features));
      const std::vector<double> phi = ToHost(features, *stream);
      for (int64_t i = 0; i < kVectors; ++i) {
        for (int64_t j = kVectors; j < 2 * kVectors; ++j) {
          const auto q = phi.begin() + i * size;
          const double product = std::inner_product(q, q + size, phi.begin() + j * size, 0.0);
          mean += product * product / (kNetworks * kVectors * kVectors);
        }
      }
    }
    EXPECT_GT(mean, 0.3) << size;
    EXPECT_LT(mean, 20) << size;
  }
}

TEST(ParameterLayoutTest, ParametersLieInOrderAtAlignedPlaces) {
  ParameterLayout layout;
  const ParameterIndex a = layout.AddWeight("a", {3, 5});
  const ParameterIndex n = layout.AddNorm("n", 17);
  const ParameterIndex b = layout.AddWeight("b", {2});
  EXPECT_EQ(layout[a].offset, 0);
  EXPECT_EQ(layout[n].offset, 16);
  EXPECT_EQ(layout[b].offset, 48);
  EXPECT_EQ(layout.block_count(), 64);
  EXPECT_EQ(layout.parameter_count(), 15 + 17 + 2);
  EXPECT_TRUE(layout[a].weight_decay);
  EXPECT_FALSE(layout[n].weight_decay);
}

TEST(InitialWeightsTest, AreTheSameOnEveryDeviceAndFollowTheSeed) {
  const ModelConfig config{
      .vocabulary = 64, .width = 32, .hidden = 64, .layers = {DeltaMixerConfig{.heads = 2}}};
  const PassShape shape;
  testing::ModelFixture cpu(config, NewCpu(1), shape);
  testing::ModelFixture reference(config, NewReference(), shape);
  const std::vector<double> weights = ToHost(cpu.weights().block(), cpu.stream());
  EXPECT_EQ(weights, ToHost(reference.weights().block(), reference.stream()));
  ASSERT_OK(InitialiseWeights(/*seed=*/2, cpu.stream(), cpu.weights()));
  EXPECT_NE(weights, ToHost(cpu.weights().block(), cpu.stream()));
}

TEST(InitialWeightsTest, MatricesAreNormalWithDeviation002AndNormsAreOne) {
  const ModelConfig config{
      .vocabulary = 256, .width = 64, .hidden = 64, .layers = {DeltaMixerConfig{.heads = 2}}};
  testing::ModelFixture fixture(config, NewReference(), PassShape{});
  const std::vector<double> weights = ToHost(fixture.weights().block(), fixture.stream());
  for (const Parameter& parameter : fixture.model().layout().parameters()) {
    const auto count = static_cast<double>(parameter.shape.count());
    double sum = 0;
    double squares = 0;
    for (int64_t i = 0; i < parameter.shape.count(); ++i) {
      const double value = weights[static_cast<size_t>(parameter.offset + i)];
      sum += value;
      squares += value * value;
    }
    if (parameter.initialisation.kind == Initialisation::Kind::kFill) {
      EXPECT_EQ(sum, count) << parameter.name;
      EXPECT_EQ(squares, count) << parameter.name;
    } else {
      // Five standard errors of a mean and of a variance.
      EXPECT_NEAR(sum / count, 0, 5 * 0.02 / std::sqrt(count)) << parameter.name;
      EXPECT_NEAR(squares / count / 4e-4, 1, 5 * std::sqrt(2 / count)) << parameter.name;
    }
  }
}

struct Moments {
  double mean = 0;
  double variance = 0;
  double largest = 0;
};

// Of the only parameter of a layout of its own.
Moments MomentsOf(const ParameterLayout& layout) {
  const auto device = NewReference();
  const auto stream = testing::Must(device->NewStream());
  ParameterBlock block(layout, testing::Must(kernels::NewTensor(*device, kernels::DType::kF64,
                                                                {layout.block_count()})));
  EXPECT_OK(InitialiseWeights(/*seed=*/3, *stream, block));
  const std::vector<double> values = ToHost(block[ParameterIndex(0)], *stream);
  const auto count = static_cast<double>(values.size());
  Moments moments;
  for (const double value : values) {
    moments.mean += value / count;
    moments.variance += value * value / count;
    moments.largest = std::max(moments.largest, std::abs(value));
  }
  return moments;
}

TEST(InitialWeightsTest, SchemesHaveTheSpreadThatTheyName) {
  constexpr double in = 40;
  constexpr double out = 100;
  constexpr double count = in * out;
  const auto of = [](WeightScheme scheme) {
    ParameterLayout layout(scheme);
    layout.AddWeight("w", {100, 40});
    return MomentsOf(layout);
  };
  // A uniform variable within +-b has the variance b^2 / 3, and its square a relative standard
  // error of sqrt(4 / 5 / count); five of them are allowed. The cut normal's tails are thinner than
  // a normal's, whose bound sqrt(2 / count) is used.
  const Moments torch = of(WeightScheme::kTorch);
  EXPECT_LT(torch.largest, 1 / std::sqrt(in));
  EXPECT_NEAR(torch.variance * 3 * in, 1, 5 * std::sqrt(0.8 / count));
  const Moments xavier = of(WeightScheme::kXavierUniform);
  EXPECT_LT(xavier.largest, std::sqrt(6 / (in + out)));
  EXPECT_NEAR(xavier.variance * (in + out) / 2, 1, 5 * std::sqrt(0.8 / count));
  const Moments lecun = of(WeightScheme::kLecun);
  EXPECT_LE(lecun.largest, 2 / 0.8796 / std::sqrt(in));
  EXPECT_NEAR(lecun.variance * in, 1, 5 * std::sqrt(2 / count));
  EXPECT_NEAR(lecun.mean, 0, 5 / std::sqrt(in * count));
}

TEST(InitialWeightsTest, BiasesAreZeroExceptInTheSchemeThatDrawsThem) {
  ParameterLayout normal;
  normal.AddBias("b", 1000, /*in=*/25);
  EXPECT_EQ(MomentsOf(normal).largest, 0);
  ParameterLayout torch(WeightScheme::kTorch);
  torch.AddBias("b", 1000, /*in=*/25);
  const Moments moments = MomentsOf(torch);
  EXPECT_LT(moments.largest, 0.2);
  EXPECT_NEAR(moments.variance * 75, 1, 5 * std::sqrt(0.8 / 1000));
}

TEST(InitialWeightsTest, ConstantsFollowFromTheSeedAndAreNotTrained) {
  ParameterLayout layout;
  const ParameterIndex c =
      layout.AddConstant("c", {2, 3}, [](uint64_t seed, absl::Span<double> into) {
        for (size_t i = 0; i < into.size(); ++i) into[i] = static_cast<double>(seed + i);
      });
  EXPECT_EQ(layout.parameter_count(), 0);
  EXPECT_FALSE(layout[c].weight_decay);
  EXPECT_EQ(MomentsOf(layout).mean, 3 + 2.5);  // seed 3, elements 0 to 5
}

// Computed by another program from the definition (Philox block i / 4 of ordinal p, Box and Muller,
// times 0.02, rounded to fp32) and never to change: the hashes of runs rest on it.
TEST(InitialWeightsTest, GoldenValues) {
  const ModelConfig config{
      .vocabulary = 8, .width = 4, .hidden = 4, .layers = {DeltaMixerConfig{.heads = 1}}};
  testing::ModelFixture fixture(config, NewReference(), PassShape{});
  ASSERT_OK(InitialiseWeights(/*seed=*/2024, fixture.stream(), fixture.weights()));
  const std::vector<double> weights = ToHost(fixture.weights().block(), fixture.stream());
  const ParameterLayout& layout = fixture.model().layout();
  EXPECT_EQ(layout.parameters()[0].name, "embedding.weight");
  EXPECT_EQ(layout.parameters()[2].name, "layers.0.mixer.q.weight");
  std::vector<double> normals(8);
  kernels::FillNormal(2024, {.tag = kernels::RandomTag::kInitialisation}, /*ordinal=*/2, 0,
                      absl::MakeSpan(normals));
  for (size_t i = 0; i < normals.size(); ++i) {
    EXPECT_EQ(weights[static_cast<size_t>(layout.parameters()[2].offset) + i],
              static_cast<double>(static_cast<float>(0.02 * normals[i])));
  }
  EXPECT_FLOAT_EQ(static_cast<float>(weights[0]), 0.00275082974F);
  EXPECT_FLOAT_EQ(static_cast<float>(weights[1]), 0.0264858369F);
}

TEST(ScratchTest, MemoryIsTakenAgainAfterTheFrame) {
  const auto device = NewReference();
  Scratch scratch(*device);
  const kernels::Tensor outer = testing::Must(scratch.Take({4}));
  double* inner_address = nullptr;
  for (int i = 0; i < 3; ++i) {
    Scratch::Frame frame(scratch);
    const kernels::Tensor inner = testing::Must(scratch.Take({i == 0 ? 8 : 2, 2}));
    EXPECT_NE(inner.data<double>(), outer.data<double>());
    if (i > 0) {
      EXPECT_EQ(inner.data<double>(), inner_address);
    }
    inner_address = inner.data<double>();
  }
}

TEST(DrawTokenTest, ZeroTemperatureTakesTheLikeliestAndTiesGoToTheLowest) {
  EXPECT_EQ(DrawToken({1.0, 3.0, 3.0, 2.0}, {.temperature = 0}, 0), 1);
}

TEST(DrawTokenTest, FollowsTheProbabilitiesOfTheLikeliestK) {
  const std::vector<double> logits = {std::log(5.0), std::log(1.0), std::log(3.0), std::log(0.5)};
  const SamplingOptions options = {.temperature = 1.0, .top_k = 2, .seed = 3};
  constexpr int draws = 4000;
  std::vector<int> counts(4, 0);
  for (uint32_t i = 0; i < draws; ++i) {
    ++counts[static_cast<size_t>(DrawToken(logits, options, i))];
  }
  EXPECT_EQ(counts[1] + counts[3], 0);
  // Five standard deviations of a binomial with p = 5/8.
  EXPECT_NEAR(counts[0], draws * 5.0 / 8.0, 5 * std::sqrt(draws * 15.0 / 64.0));
}

class SamplerTest : public ::testing::Test {
 protected:
  static std::vector<int32_t> Text(const SamplingOptions& options,
                                   const std::vector<int32_t>& prompt) {
    const ModelConfig config{
        .vocabulary = 20,
        .width = 16,
        .hidden = 16,
        .layers = {DeltaMixerConfig{.heads = 2},
                   SoftmaxMixerConfig{.heads = 2, .kv_heads = 2, .window = 4}}};
    testing::ModelFixture fixture(config, NewCpu(1), PassShape{});
    fixture.EnlargeWeights();
    Sampler sampler(fixture.language_model(), fixture.weights(), fixture.stream());
    std::vector<int32_t> text;
    EXPECT_OK(sampler.Generate(prompt, options, [&](int32_t token) {
      text.push_back(token);
      return text.size() < 7;
    }));
    return text;
  }
};

TEST_F(SamplerTest, TextFollowsSeedAndPromptAndEndsAsAsked) {
  const SamplingOptions five = {.tokens = 5, .temperature = 1.0, .seed = 1};
  const std::vector<int32_t> text = Text(five, {3, 4});
  EXPECT_EQ(text.size(), 5U);
  EXPECT_EQ(text, Text(five, {3, 4}));
  EXPECT_NE(text, Text({.tokens = 5, .temperature = 1.0, .seed = 2}, {3, 4}));
  EXPECT_EQ(Text({.tokens = 100}, {}).size(), 7U);  // the caller had enough
}

TEST_F(SamplerTest, RefusesWhatItCannotContinue) {
  const ModelConfig config{
      .vocabulary = 20, .width = 16, .hidden = 16, .layers = {DeltaMixerConfig{.heads = 2}}};
  testing::ModelFixture fixture(config, NewCpu(1), PassShape{});
  Sampler sampler(fixture.language_model(), fixture.weights(), fixture.stream());
  const auto ignore = [](int32_t) { return true; };
  EXPECT_THAT(sampler.Generate({20}, {}, ignore),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("vocabulary of 20")));
  EXPECT_THAT(sampler.Generate({1}, {.tokens = 0}, ignore),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokens")));
  EXPECT_THAT(sampler.Generate({1}, {.temperature = -1}, ignore),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("temperature")));
}

}  // namespace
}  // namespace weft::worker
