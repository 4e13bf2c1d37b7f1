#include "worker/model/language_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <variant>

#include "absl/strings/match.h"
#include "tests/worker/model/model_fixture.h"

namespace weft::worker {
namespace {

using testing::ModelFixture;
using testing::NewCpu;
using testing::NewReference;
using testing::ToHost;
using testing::Tokens;
using weft::testing::StatusIs;

struct NamedModel {
  std::string name;
  ModelConfig config;
  // Which pairs are exact follows from later tokens too: weights are causal, results are not quite.
  bool looks_ahead = false;
  // Some gradients are estimates of what a sampled graph would do, which differences do not show:
  // sbm_mixer_test compares them with the loss that they stand for.
  bool estimates = false;
};

ModelConfig Tiny(std::vector<MixerConfig> layers) {
  return {.vocabulary = 11, .width = 12, .hidden = 10, .layers = std::move(layers)};
}

ModelConfig With(ModelConfig config, const BiasConfig& biases, bool output_projection) {
  config.biases = biases;
  config.output_projection = output_projection;
  return config;
}

// The model of PolySketchFormer, with softmax attention.
ModelConfig PolySketchStyle(std::vector<MixerConfig> layers) {
  ModelConfig config = Tiny(std::move(layers));
  config.norm = NormKind::kLayer;
  config.mlp = MlpKind::kGeglu;
  config.positions = PositionKind::kSinusoidal;
  config.biases.logits = true;
  config.tied = true;
  config.weights = WeightScheme::kLecun;
  return config;
}

// The model of the SLiM Performers, with softmax attention.
ModelConfig SlimStyle(std::vector<MixerConfig> layers) {
  ModelConfig config = Tiny(std::move(layers));
  config.norm = NormKind::kLayer;
  config.norm_placement = NormPlacement::kOutput;
  config.final_norm = false;
  config.mlp = MlpKind::kGelu;
  config.positions = PositionKind::kSinusoidalConcatenated;
  config.biases = {.projections = true, .mlp = true, .logits = true};
  config.output_projection = false;
  config.weights = WeightScheme::kTorch;
  return config;
}

ModelConfig Gpt2Style(std::vector<MixerConfig> layers) {
  ModelConfig config = Tiny(std::move(layers));
  config.norm = NormKind::kLayer;
  config.mlp = MlpKind::kGeluTanh;
  config.positions = PositionKind::kLearned;
  config.max_positions = 9;
  config.biases = {.projections = true, .output = true, .mlp = true};
  config.tied = true;
  return config;
}

ModelConfig LearnedPositions(std::vector<MixerConfig> layers) {
  ModelConfig config = Tiny(std::move(layers));
  config.positions = PositionKind::kLearned;
  config.max_positions = 9;
  config.weights = WeightScheme::kXavierUniform;
  return config;
}

// Nothing behind the layers has parameters.
ModelConfig TiedWithoutFinalNorm(std::vector<MixerConfig> layers) {
  ModelConfig config = Tiny(std::move(layers));
  config.tied = true;
  config.final_norm = false;
  return config;
}

ModelConfig Dropping(ModelConfig config) {
  config.dropout = {.embedding = 0.2, .sublayer = 0.3, .mlp_hidden = 0.25};
  return config;
}

ModelConfig DroppingAttention(ModelConfig config) {
  config.dropout.attention = 0.3;
  return config;
}

// Blocks of three tokens, so that texts have whole blocks and an unfinished one.
PolysketchMixerConfig Polysketch(PolysketchMode mode, PolysketchNorm norm, int64_t degree = 4) {
  return {.heads = 2,
          .mode = mode,
          .norm = norm,
          .degree = degree,
          .sketch_size = 5,
          .block = 3,
          .c0 = 0.5};
}

// Windows and blocks that are shorter than the texts, so that some pairs are exact and some are
// not.
ScatterbrainMixerConfig Scatterbrain(ScatterbrainSupport support) {
  return {.heads = 2, .support = support, .feature_epsilon = 1e-3};
}

// So many edges that few tokens have none.
SbmMixerConfig Sbm(kernels::SbmSampler sampler) {
  return {.heads = 2, .clusters = 5, .sampler = sampler, .exploration = 0.5};
}

// Every mixer option, and both hybrids of the DeltaNet paper in small.
std::vector<NamedModel> Models() {
  const DeltaMixerConfig delta{.heads = 2};
  const SoftmaxMixerConfig window{.heads = 2, .kv_heads = 2, .window = 3};
  const SoftmaxMixerConfig global{.heads = 2, .kv_heads = 2};
  const SoftmaxMixerConfig unordered{.heads = 2, .kv_heads = 2, .rotary_base = 0};
  return {
      {"Delta", Tiny({delta})},
      {"DeltaWithoutConvolution", Tiny({DeltaMixerConfig{.heads = 3, .convolution_taps = 0}})},
      {"DeltaWithOneTap", Tiny({DeltaMixerConfig{.heads = 2, .convolution_taps = 1}})},
      {"DeltaGatedNegative",
       Tiny({DeltaMixerConfig{.heads = 2, .negative_eigenvalues = true, .output_gate = true}})},
      {"Softmax", Tiny({global})},
      {"SoftmaxSharedHeads",
       Tiny({SoftmaxMixerConfig{.heads = 6, .kv_heads = 2, .rotary_base = 100.0}})},
      {"Window", Tiny({window})},
      {"SoftmaxWithoutPositions",
       Tiny({SoftmaxMixerConfig{.heads = 2, .kv_heads = 1, .rotary_base = 0}})},
      {"SoftmaxNarrowHeads",
       Tiny({SoftmaxMixerConfig{.heads = 2, .kv_heads = 2, .head_width = 4}})},
      {"SoftmaxBiases", With(Tiny({global}), {.projections = true, .output = true}, true)},
      {"SoftmaxWithoutOutput", With(Tiny({global, window}), {.projections = true}, false)},
      {"SoftmaxDropout", DroppingAttention(Tiny({window, global}))},
      {"DeltaBiases", With(Tiny({delta}), {.projections = true, .output = true}, true)},
      {"DeltaWithoutOutput",
       With(Tiny({DeltaMixerConfig{.heads = 2, .output_gate = true}}), {}, false)},
      {"Performer", Tiny({PerformerMixerConfig{.heads = 2, .feature_count = 10}})},
      {"PerformerHyperbolic", Tiny({PerformerMixerConfig{.heads = 3,
                                                         .rotary_base = 0,
                                                         .features = FeatureFunction::kHyperbolic,
                                                         .feature_count = 8,
                                                         .feature_epsilon = 1e-3}})},
      {"PerformerRelu", Tiny({PerformerMixerConfig{.heads = 2,
                                                   .features = FeatureFunction::kRelu,
                                                   .feature_count = 0,
                                                   .feature_epsilon = 1e-3,
                                                   .denominator_epsilon = 0}})},
      {"PerformerEluOfRandomRows",
       Tiny({PerformerMixerConfig{.heads = 2,
                                  .features = FeatureFunction::kElu1,
                                  .feature_count = 9,
                                  .rows = kernels::FeatureRows::kIndependent}})},
      {"PolysketchPolynomial",
       Tiny({Polysketch(PolysketchMode::kPolynomial, PolysketchNorm::kShared)})},
      {"PolysketchRandom",
       Tiny({Polysketch(PolysketchMode::kRandomSketch, PolysketchNorm::kShared)})},
      {"PolysketchRandomWithoutNorm",
       Tiny({Polysketch(PolysketchMode::kRandomSketch, PolysketchNorm::kNone, 8)})},
      {"PolysketchLearned",
       Tiny({Polysketch(PolysketchMode::kLearnedSketch, PolysketchNorm::kNone)})},
      {"PolysketchRandomMixed",
       Tiny({Polysketch(PolysketchMode::kRandomSketchMixed, PolysketchNorm::kShared)})},
      {"PolysketchLearnedMixed",
       Tiny({Polysketch(PolysketchMode::kLearnedSketchMixed, PolysketchNorm::kSeparate)})},
      {"PolysketchLearnedMixedWithoutNorm",
       Tiny({Polysketch(PolysketchMode::kLearnedSketchMixed, PolysketchNorm::kNone, 2)})},
      {"ScatterbrainWindow", Tiny({Scatterbrain(ScatterbrainWindow{.width = 5})})},
      {"ScatterbrainNarrowWindow",
       Tiny({ScatterbrainMixerConfig{.heads = 3,
                                     .rotary_base = 100.0,
                                     .support = ScatterbrainWindow{.width = 2},
                                     .feature_count = 7,
                                     .hyperbolic = false,
                                     .rows = kernels::FeatureRows::kIndependent}})},
      {"ScatterbrainBlocks",
       Tiny({Scatterbrain(kernels::BlockPattern{.block = 2, .window = 1, .random = 1})})},
      {"ScatterbrainGlobalBlocks",
       Tiny({Scatterbrain(kernels::BlockPattern{.block = 2, .window = 1, .global = 1}),
             Scatterbrain(kernels::BlockPattern{.block = 1, .window = 0, .stride = 3})})},
      {"ScatterbrainHash", Tiny({Scatterbrain(ScatterbrainHash{.rounds = 2, .bucket = 2})}), true},
      {"ScatterbrainDropout",
       DroppingAttention(Tiny({Scatterbrain(ScatterbrainWindow{.width = 5})}))},
      {.name = "Sbm", .config = Tiny({Sbm(kernels::SbmSampler::kPoisson)}), .estimates = true},
      {.name = "SbmCopies",
       .config = Tiny({Sbm(kernels::SbmSampler::kPoissonCopies)}),
       .estimates = true},
      {.name = "SbmExact",
       .config = Tiny({SbmMixerConfig{.heads = 3,
                                      .rotary_base = 0,
                                      .clusters = 4,
                                      .sampler = kernels::SbmSampler::kExact,
                                      .exploration = 0.3,
                                      .straight_through = kernels::SbmStraightThrough::kLogit,
                                      .clip = std::numeric_limits<double>::infinity(),
                                      .density_weight = 0.1}}),
       .estimates = true},
      {.name = "SbmDropout",
       .config = DroppingAttention(Tiny({Sbm(kernels::SbmSampler::kDense), global})),
       .estimates = true},
      {"Slim", Tiny({SlimMixerConfig{.heads = 2}})},
      {"SlimOfThePaper", With(Tiny({SlimMixerConfig{.heads = 2}}), {.projections = true}, false)},
      {"SlimMagnitude",
       Tiny({SlimMixerConfig{.heads = 3, .features = FeatureFunction::kMagnitude}})},
      {"SlimRandom", Tiny({SlimMixerConfig{.heads = 2,
                                           .rotary_base = 100,
                                           .features = FeatureFunction::kExponential,
                                           .feature_factor = 2}})},
      {"SlidingWindowHybrid", Tiny({delta, window, delta, window})},
      {"PolySketchStyle", PolySketchStyle({global, global})},
      {"SlimStyle", SlimStyle({global, window})},
      {"LearnedPositions", LearnedPositions({unordered})},
      {"Gpt2Style", Gpt2Style({unordered})},
      {"Gpt2StyleDropout", Dropping(Gpt2Style({unordered}))},
      {"TiedWithoutFinalNorm", TiedWithoutFinalNorm({delta})},
      {"Dropout", Dropping(Tiny({delta, global}))},
      {"SlimStyleDropout", Dropping(SlimStyle({global}))},
      {"GlobalHybrid", Tiny({delta, global, global, delta})},
  };
}

// A bias of keys adds the same to all scores of a query: softmax does not see it, without
// rotations.
bool HasNoGradient(const ModelConfig& config, const Parameter& parameter) {
  const auto* softmax = std::get_if<SoftmaxMixerConfig>(&config.layers.front());
  return softmax != nullptr && softmax->rotary_base == 0.0 &&
         absl::EndsWith(parameter.name, ".mixer.k.bias");
}

class LanguageModelTest : public ::testing::TestWithParam<NamedModel> {
 protected:
  static constexpr PassShape kShape = {.batch = 2, .tokens = 7};

  static std::vector<int32_t> SomeTokens(uint64_t seed) {
    return Tokens(kShape.batch * kShape.tokens, GetParam().config.vocabulary, seed);
  }
  static void Fill(ModelFixture& fixture) {
    fixture.EnlargeWeights();
    fixture.Train();
    std::vector<int32_t> targets = SomeTokens(3);
    targets[4] = -1;  // not a training example
    fixture.SetBatch(SomeTokens(2), targets);
  }
};

// Central differences along random directions of each parameter: a wrong or forgotten term in any
// backward pass shows in the parameter that it belongs to.
TEST_P(LanguageModelTest, GradientsEqualFiniteDifferences) {
  if (GetParam().estimates) return;
  ModelFixture fixture(GetParam().config, NewReference(), kShape);
  Fill(fixture);
  constexpr double scale = 0.25;
  const std::vector<double> gradient = fixture.Gradient(scale);
  const std::vector<double> weights = ToHost(fixture.weights().block(), fixture.stream());
  constexpr double step_size = 1e-5;
  uint64_t seed = 100;
  for (const Parameter& parameter : fixture.model().layout().parameters()) {
    const auto first = static_cast<size_t>(parameter.offset);
    const auto count = static_cast<size_t>(parameter.shape.count());
    if (!parameter.trained) {
      EXPECT_TRUE(std::all_of(gradient.begin() + parameter.offset,
                              gradient.begin() + parameter.offset + parameter.shape.count(),
                              [](double slope) { return slope == 0.0; }))
          << parameter.name;
      continue;
    }
    std::vector<double> direction(count);
    kernels::FillNormal(++seed, {}, 0, 0, absl::MakeSpan(direction));
    double expected = 0;
    double size = 0;  // of the terms that could cancel
    const auto loss_at = [&](double step) {
      std::vector<double> moved = weights;
      for (size_t i = 0; i < count; ++i) moved[first + i] += step * direction[i];
      fixture.SetWeights(moved);
      return scale * fixture.Loss();
    };
    const double difference = (8 * (loss_at(step_size) - loss_at(-step_size)) -
                               (loss_at(2 * step_size) - loss_at(-2 * step_size))) /
                              (12 * step_size);
    for (size_t i = 0; i < count; ++i) {
      expected += gradient[first + i] * direction[i];
      size += std::abs(gradient[first + i] * direction[i]);
    }
    // The difference quotient errs by the fifth derivative times step^4 and by the rounding of the
    // loss (about 1e-15) over the step.
    EXPECT_NEAR(difference, expected, 1e-6 * (1 + size)) << parameter.name;
    if (HasNoGradient(GetParam().config, parameter)) {
      EXPECT_EQ(size, 0) << parameter.name;
    } else {
      EXPECT_GT(size, 1e-6) << parameter.name << " has no gradient: the test would see nothing";
    }
  }
}

TEST_P(LanguageModelTest, CpuFollowsTheReference) {
  ModelFixture reference(GetParam().config, NewReference(), kShape);
  ModelFixture cpu(GetParam().config, NewCpu(2), kShape);
  Fill(reference);
  Fill(cpu);
  const std::vector<double> exact = reference.Gradient(1.0);
  const std::vector<double> exact_losses = reference.Losses();
  const std::vector<double> got = cpu.Gradient(1.0);
  const std::vector<double> got_losses = cpu.Losses();
  for (size_t i = 0; i < exact_losses.size(); ++i) {
    EXPECT_NEAR(got_losses[i], exact_losses[i], 2e-5) << "loss " << i;
  }
  // fp32 errors of a few hundred roundings, relative to the largest gradient of the parameter:
  // small elements are differences of large terms.
  for (const Parameter& parameter : cpu.model().layout().parameters()) {
    double largest = 0;
    double error = 0;
    for (int64_t i = 0; i < parameter.shape.count(); ++i) {
      const auto at = static_cast<size_t>(parameter.offset + i);
      largest = std::max(largest, std::abs(exact[at]));
      error = std::max(error, std::abs(exact[at] - got[at]));
    }
    EXPECT_LE(error, 1e-4 * largest) << parameter.name;
  }
}

TEST_P(LanguageModelTest, BitsDoNotDependOnTheNumberOfThreads) {
  std::vector<std::vector<double>> gradients;
  for (const int threads : {1, 2, 3}) {
    ModelFixture fixture(GetParam().config, NewCpu(threads), kShape);
    Fill(fixture);
    gradients.push_back(fixture.Gradient(1.0));
  }
  EXPECT_EQ(gradients[0], gradients[1]);
  EXPECT_EQ(gradients[0], gradients[2]);
}

TEST_P(LanguageModelTest, TokensSeeNothingThatComesAfterThem) {
  ModelFixture fixture(GetParam().config, NewReference(), kShape);
  Fill(fixture);
  const std::vector<double> before = fixture.Losses();
  std::vector<int32_t> tokens = SomeTokens(2);
  const size_t changed = 5;  // in the first row
  tokens[changed] = (tokens[changed] + 1) % 11;
  std::vector<int32_t> targets = SomeTokens(3);
  targets[4] = -1;
  fixture.SetBatch(tokens, targets);
  const std::vector<double> after = fixture.Losses();
  for (size_t i = 0; i < before.size(); ++i) {
    if (i < kShape.tokens && GetParam().looks_ahead) continue;
    if (i >= changed && i < kShape.tokens) {
      EXPECT_NE(after[i], before[i]) << i;
    } else {
      EXPECT_EQ(after[i], before[i]) << i;
    }
  }
}

TEST_P(LanguageModelTest, DecodingTokenByTokenGivesTheLossesOfTheWholePass) {
  const PassShape one_text = {.batch = 1, .tokens = 9};
  const ModelConfig& config = GetParam().config;
  ModelFixture fixture(config, NewReference(), one_text);
  fixture.EnlargeWeights();
  const std::vector<int32_t> tokens = Tokens(one_text.tokens, config.vocabulary, 5);
  const std::vector<int32_t> targets = Tokens(one_text.tokens, config.vocabulary, 6);
  fixture.SetBatch(tokens, targets);
  const std::vector<double> losses = fixture.Losses();

  if (GetParam().looks_ahead) {
    EXPECT_THAT(fixture.language_model().NewDecodingState(fixture.device(), one_text.tokens),
                StatusIs(absl::StatusCode::kUnimplemented, ::testing::HasSubstr("later ones")));
    return;
  }
  const auto state =
      testing::Must(fixture.language_model().NewDecodingState(fixture.device(), one_text.tokens));
  kernels::Tensor logits = testing::Must(
      kernels::NewTensor(fixture.device(), kernels::DType::kF64, {1, config.vocabulary}));
  for (size_t t = 0; t < tokens.size(); ++t) {
    testing::Must(fixture.device().CopyFromHost(state->token, &tokens[t], fixture.stream()));
    ASSERT_OK(fixture.language_model().Decode(fixture.pass(), *state, logits));
    double sum = 0;
    const std::vector<double> values = ToHost(logits, fixture.stream());
    for (const double logit : values) sum += std::exp(logit);
    const double loss = std::log(sum) - values[static_cast<size_t>(targets[t])];
    EXPECT_NEAR(loss, losses[t], 1e-10) << "token " << t;  // fp64, another order of sums
  }
}

TEST_P(LanguageModelTest, GradientsAreFinalWhenTheyAreSaidToBe) {
  ModelFixture fixture(GetParam().config, NewReference(), kShape);
  Fill(fixture);
  const std::vector<double> final_gradient = fixture.Gradient(1.0);
  int64_t last = fixture.model().layout().block_count();
  int calls = 0;
  fixture.Gradient(1.0, [&](int64_t first) {
    EXPECT_LT(first, last);
    const std::vector<double> now = fixture.CurrentGradient();
    EXPECT_TRUE(std::equal(now.begin() + first, now.end(), final_gradient.begin() + first));
    last = first;
    ++calls;
  });
  EXPECT_EQ(last, 0);
  const ModelConfig& config = GetParam().config;
  const bool has_head = config.final_norm || !config.tied || config.biases.logits;
  EXPECT_EQ(calls, 2 * static_cast<int>(config.layers.size()) + (has_head ? 2 : 1));
}

INSTANTIATE_TEST_SUITE_P(Mixers, LanguageModelTest, ::testing::ValuesIn(Models()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace weft::worker
