// The mixer `sbm` beside what all mixers are tested for.
#include "worker/model/mixers/sbm/sbm_mixer.h"

#include <gmock/gmock.h>

#include <cmath>
#include <string>

#include "tests/kernels/attention/sbm_chain.h"
#include "tests/worker/model/model_fixture.h"

namespace weft::worker {
namespace {

using kernels::testing::SbmChain;
using kernels::testing::SbmInputs;
using kernels::testing::SbmParameters;
using kernels::testing::Values;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ModelFixture;
using testing::Must;
using testing::NewCpu;
using testing::NewReference;
using testing::ToHost;
using testing::Tokens;

ModelConfig Small(std::vector<MixerConfig> layers) {
  return {.vocabulary = 11, .width = 12, .hidden = 10, .layers = std::move(layers)};
}

TEST(SbmMixerTest, NamesAllProblemsAtOnce) {
  const absl::Status status =
      Validate(Small({SbmMixerConfig{.heads = 5, .clusters = 0},
                      SbmMixerConfig{.heads = 2, .exploration = 0.7, .clip = 0},
                      SbmMixerConfig{.heads = 12, .density_weight = -1}}));
  EXPECT_THAT(
      status.message(),
      AllOf(HasSubstr("layers[0].heads is 5"), HasSubstr("layers[0].clusters is 0"),
            HasSubstr("layers[1].exploration is 0.7"), HasSubstr("layers[1].clip is 0"),
            HasSubstr("layers[2]: the head width 1"), HasSubstr("layers[2].density_weight is -1")));
}

TEST(SbmMixerTest, EveryOptionIsPartOfTheFingerprint) {
  std::vector<std::string> texts;
  for (const SbmMixerConfig& mixer :
       {SbmMixerConfig{}, SbmMixerConfig{.heads = 2}, SbmMixerConfig{.rotary_base = 0},
        SbmMixerConfig{.clusters = 4}, SbmMixerConfig{.sampler = kernels::SbmSampler::kDense},
        SbmMixerConfig{.exploration = 0},
        SbmMixerConfig{.straight_through = kernels::SbmStraightThrough::kLogit},
        SbmMixerConfig{.clip = 2}, SbmMixerConfig{.density_weight = 0}}) {
    texts.push_back(Canonical(mixer));
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(texts[i], texts[j]) << i << " and " << j;
  }
}

// One mixer over x with random weights and a random dy, on the fp64 reference, and the same in
// plain loops up to the surrogate loss of the kernels' tests.
class SbmChainOfAMixer : public ::testing::Test {
 protected:
  static constexpr int64_t kBatch = 2, kTokens = 6, kHeads = 2, kWidth = 4, kClusters = 3;
  static constexpr int64_t kChannels = kHeads * kWidth;

  // Parameters and gradients by name, "x" among them.
  using Named = std::map<std::string, Values>;

  static Values Drawn(int64_t count, uint64_t seed) {
    Values values(static_cast<size_t>(count));
    kernels::FillNormal(seed, {}, 0, 0, absl::MakeSpan(values));
    for (double& value : values) value *= 0.5;
    return values;
  }

  // rows of x times W^T: [rows, out].
  static Values Times(const Values& x, const Values& w) {
    const size_t out = w.size() / kChannels;
    Values y(x.size() / kChannels * out);
    for (size_t row = 0; row * kChannels < x.size(); ++row) {
      for (size_t o = 0; o < out; ++o) {
        for (size_t c = 0; c < kChannels; ++c) {
          y[row * out + o] += x[row * kChannels + c] * w[o * kChannels + c];
        }
      }
    }
    return y;
  }

  static SbmParameters ChainAt(const Named& at) {
    return {.q = Times(at.at("x"), at.at("m.q.weight")),
            .k = Times(at.at("x"), at.at("m.k.weight")),
            .v = Times(at.at("x"), at.at("m.v.weight")),
            .w1 = at.at("m.map.hidden.weight"),
            .b1 = at.at("m.map.hidden.bias"),
            .w2 = at.at("m.map.output.weight"),
            .b2 = at.at("m.map.output.bias"),
            .clusters = at.at("m.clusters")};
  }

  kernels::Tensor Upload(const Values& values, const kernels::Shape& shape) {
    kernels::Tensor tensor = Must(kernels::NewTensor(*device_, kernels::DType::kF64, shape));
    Must(device_->CopyFromHost(tensor, values.data(), *stream_));
    return tensor;
  }

  std::unique_ptr<kernels::Device> device_ = NewReference();
  std::unique_ptr<kernels::Stream> stream_ = Must(device_->NewStream());
};

TEST_F(SbmChainOfAMixer, HasTheGradientsOfTheStraightThroughLoss) {
  for (const auto estimate :
       {kernels::SbmStraightThrough::kMask, kernels::SbmStraightThrough::kLogit}) {
    for (const bool causal : {false, true}) {
      const SbmMixerConfig config{.heads = kHeads,
                                  .rotary_base = 0,
                                  .clusters = kClusters,
                                  .exploration = 0.25,
                                  .straight_through = estimate,
                                  .clip = std::numeric_limits<double>::infinity(),
                                  .density_weight = 3.0};
      const MixerPlace place{.width = kChannels,
                             .causal = causal,
                             .layer = 2,
                             .layers = 5,
                             .attention_dropout = causal ? 0.3 : 0.0};
      ParameterLayout layout;
      const SbmMixer mixer(config, place, "m", layout);
      Named at;
      Values block(static_cast<size_t>(layout.block_count()));
      uint64_t seed = 30;
      for (const Parameter& parameter : layout.parameters()) {
        at[parameter.name] = Drawn(parameter.shape.count(), ++seed);
        std::copy(at[parameter.name].begin(), at[parameter.name].end(),
                  block.begin() + parameter.offset);
      }
      at["x"] = Drawn(kBatch * kTokens * kChannels, ++seed);
      const Values dy = Drawn(kBatch * kTokens * kChannels, ++seed);

      const ParameterBlock weights(layout, Upload(block, {layout.block_count()}));
      const ParameterBlock gradients(layout,
                                     Upload(Values(block.size(), 0.0), {layout.block_count()}));
      Scratch scratch(*device_);
      const Pass pass{.stream = *stream_,
                      .scratch = scratch,
                      .weights = weights,
                      .draws = {.seed = 7, .step = 3, .first_sequence = 4, .training = true},
                      .step_sequences = 10};
      const kernels::Shape shape = {kBatch, kTokens, kChannels};
      const kernels::Tensor x = Upload(at["x"], shape);
      kernels::Tensor y = Upload(dy, shape);
      kernels::Tensor dx = Upload(dy, shape);
      const auto activations = Must(mixer.NewActivations(*device_, {kBatch, kTokens}));
      ASSERT_OK(mixer.Forward(pass, x, *activations, /*residual=*/kernels::Tensor(), y));
      ASSERT_OK(mixer.Backward(pass, gradients, x, *activations, Upload(dy, shape), dx));
      const Values d_block = ToHost(gradients.block(), *stream_);

      // The same problem in the words of the kernel, with the graph of the same place in the job.
      SbmChain chain;
      chain.at = ChainAt(at);
      SbmInputs& in = chain.in;
      in.problem = {.batch = kBatch,
                    .queries = kTokens,
                    .keys = kTokens,
                    .heads = kHeads,
                    .head_dim = kWidth,
                    .clusters = kClusters,
                    .scale = 0.5,
                    .causal = causal,
                    .exploration = 0.25,
                    .straight_through = estimate,
                    .clip = std::numeric_limits<double>::infinity(),
                    // 3 times the mean over 5 layers, 2 heads and 10 sequences.
                    .density_gradient = 3.0 / (5 * 2 * 10)};
      if (causal) {
        in.problem.dropout = {
            .probability = 0.3, .seed = 7, .step = 3, .layer = 2, .first_sequence = 4};
      }
      in.draws = {.seed = 7, .step = 3, .layer = 2, .first_sequence = 4};
      in.q = chain.at.q;
      in.k = chain.at.k;
      in.v = chain.at.v;
      in.query = kernels::testing::PlainMemberships<double>(in.problem, chain.at, in.q, kTokens);
      in.key = kernels::testing::PlainMemberships<double>(in.problem, chain.at, in.k, kTokens);
      in.affinity = kernels::testing::PlainAffinity<double>(in.problem, chain.at);
      const Values& output = at["m.output.weight"];  // [C, H D]
      Values transposed(output.size());
      for (size_t i = 0; i < output.size(); ++i) {
        transposed[i % kChannels * kChannels + i / kChannels] = output[i];
      }
      in.d_o = Times(dy, transposed);
      chain.mask = kernels::testing::MaskOf(
          in, kernels::testing::SampleSbm(kernels::testing::DeviceRun::Reference(), in));
      const Values p0 = kernels::testing::PlainProbabilities(chain, chain.at);
      const auto loss = [&](const Named& there) {
        return kernels::testing::SurrogateLoss(chain, ChainAt(there), p0);
      };

      // <dy, y> is what the loss is of, without the density.
      double of_output = 0;
      const Values y_values = ToHost(y, *stream_);
      for (size_t i = 0; i < dy.size(); ++i) of_output += dy[i] * y_values[i];
      const double edges = [&] {
        SbmChain without = chain;
        without.in.problem.density_gradient = 0;
        return loss(at) - kernels::testing::SurrogateLoss(without, chain.at, p0);
      }();
      EXPECT_GT(edges, 0.0);
      EXPECT_NEAR(of_output + edges, loss(at), 1e-12);

      for (auto& [name, values] : at) {
        if (name == "m.output.weight") continue;  // the same for all mixers
        for (size_t i = 0; i < values.size(); ++i) {
          Named moved = at;
          const auto at_step = [&](double steps) {
            moved[name][i] = values[i] + steps * 1e-4;  // crosses no corner of the rectifier
            return loss(moved);
          };
          const double slope =
              (8 * (at_step(1) - at_step(-1)) - (at_step(2) - at_step(-2))) / 12e-4;
          double got = 0;
          if (name == "x") {
            got = ToHost(dx, *stream_)[i];
          } else {
            for (const Parameter& parameter : layout.parameters()) {
              if (parameter.name == name) got = d_block[static_cast<size_t>(parameter.offset) + i];
            }
          }
          EXPECT_NEAR(got, slope, 1e-8) << name << "[" << i << "] causal " << causal;
        }
      }
    }
  }
}

// At first, memberships are near 1/2 and clusters alike: p is 1/4, whatever the scheme of the rest.
TEST(SbmMixerTest, BeginsWithAQuarterOfAllEdges) {
  ModelConfig config = Small({SbmMixerConfig{
      .heads = 2, .clusters = 16, .sampler = kernels::SbmSampler::kDense, .exploration = 0}});
  config.width = 32;
  const PassShape shape{.batch = 4, .tokens = 200};
  ModelFixture fixture(config, NewCpu(2), shape);
  fixture.Train();
  fixture.SetBatch(Tokens(800, 11, 2), Tokens(800, 11, 3));
  StepMetrics metrics(fixture.model().metrics());
  EXPECT_OK(fixture.CountLosses(metrics));
  ASSERT_EQ(metrics.names().size(), 1U);
  EXPECT_EQ(metrics.names()[0].name, "graph_density");
  EXPECT_EQ(metrics.sums()[0].count, 4 * 2);
  EXPECT_NEAR(metrics.sums()[0].sum / metrics.sums()[0].count, 0.25, 0.01);
  EXPECT_NEAR(metrics.loss_part(), 1e-4 * metrics.sums()[0].sum / 2, 1e-12);
}

class SampledModel : public ::testing::Test {
 protected:
  static constexpr int64_t kTokens = 40;

  SampledModel() { fixture_.EnlargeWeights(); }

  std::vector<double> Losses(const DrawPlace& place) {
    fixture_.Train(place);
    fixture_.SetBatch(tokens_, Tokens(2 * kTokens, 11, 3));
    return fixture_.Losses();
  }

  ModelFixture fixture_{Small({SbmMixerConfig{.heads = 2, .clusters = 6}}),
                        NewCpu(2),
                        {.batch = 2, .tokens = kTokens}};
  std::vector<int32_t> tokens_ = Tokens(2 * kTokens, 11, 2);
};

TEST_F(SampledModel, DrawsAnewForEveryStepAndForEvaluation) {
  const DrawPlace place{.seed = 7, .step = 3, .training = true};
  const std::vector<double> losses = Losses(place);
  EXPECT_EQ(Losses(place), losses);
  EXPECT_NE(Losses({.seed = 7, .step = 4, .training = true}), losses);
  EXPECT_NE(Losses({.seed = 8, .step = 3, .training = true}), losses);
  EXPECT_NE(Losses({.seed = 7, .step = 3, .first_sequence = 1, .training = true}), losses);
  EXPECT_NE(Losses({.seed = 7, .step = 3, .training = false}), losses);
}

TEST_F(SampledModel, DrawsForASequenceWhateverStandsBesideIt) {
  const DrawPlace place{.seed = 7, .step = 3, .first_sequence = 4, .training = true};
  const std::vector<double> losses = Losses(place);
  // The second sequence alone, as the first of another micro-batch.
  std::copy(tokens_.begin() + kTokens, tokens_.end(), tokens_.begin());
  std::vector<int32_t> targets = Tokens(2 * kTokens, 11, 3);
  std::copy(targets.begin() + kTokens, targets.end(), targets.begin());
  fixture_.Train({.seed = 7, .step = 3, .first_sequence = 5, .training = true});
  fixture_.SetBatch(tokens_, targets);
  const std::vector<double> moved = fixture_.Losses();
  EXPECT_TRUE(std::equal(losses.begin() + kTokens, losses.end(), moved.begin()));
  EXPECT_FALSE(std::equal(losses.begin() + kTokens, losses.end(), moved.begin() + kTokens));
}

TEST(SbmMixerTest, ALaterTokenChangesNoEarlierBitOnTheCpu) {
  for (const auto sampler : {kernels::SbmSampler::kPoisson, kernels::SbmSampler::kPoissonCopies,
                             kernels::SbmSampler::kExact, kernels::SbmSampler::kDense}) {
    ModelFixture fixture(Small({SbmMixerConfig{.heads = 2, .clusters = 6, .sampler = sampler}}),
                         NewCpu(2), {.batch = 1, .tokens = 200});
    fixture.EnlargeWeights();
    fixture.Train();
    std::vector<int32_t> tokens = Tokens(200, 11, 2);
    const std::vector<int32_t> targets = Tokens(200, 11, 3);
    fixture.SetBatch(tokens, targets);
    const std::vector<double> before = fixture.Losses();
    tokens[150] = (tokens[150] + 1) % 11;
    fixture.SetBatch(tokens, targets);
    const std::vector<double> after = fixture.Losses();
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + 150, after.begin()));
    EXPECT_FALSE(std::equal(before.begin() + 150, before.end(), after.begin() + 150));
  }
}

}  // namespace
}  // namespace weft::worker
