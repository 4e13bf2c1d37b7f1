// The small parts of a model: configuration, layout of the parameters, initial weights, scratch,
// sampling.
#include <cmath>
#include <string>

#include "tests/worker/model/model_fixture.h"
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
        "layers[1]: the head width 30/2 must be even", "layers[1].kv_heads is 3",
        "layers[2].window", "layers[2].rotary_base"}) {
    EXPECT_THAT(status.message(), HasSubstr(part));
  }
  EXPECT_THAT(Validate(ModelConfig{}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least one mixer")));
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
    if (parameter.initialisation == Initialisation::kOne) {
      EXPECT_EQ(sum, count) << parameter.name;
      EXPECT_EQ(squares, count) << parameter.name;
    } else {
      // Five standard errors of a mean and of a variance.
      EXPECT_NEAR(sum / count, 0, 5 * 0.02 / std::sqrt(count)) << parameter.name;
      EXPECT_NEAR(squares / count / 4e-4, 1, 5 * std::sqrt(2 / count)) << parameter.name;
    }
  }
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
    Sampler sampler(fixture.model(), fixture.weights(), fixture.stream());
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
  Sampler sampler(fixture.model(), fixture.weights(), fixture.stream());
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
