// The small parts of a model: configuration, layout of the parameters, scratch, sampling.
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
      kernels::LearnedSketchSaved nothing_saved;
      ASSERT_OK(sketch.Forward({.stream = *stream, .scratch = scratch, .weights = block}, x,
                               features, nothing_saved));
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
