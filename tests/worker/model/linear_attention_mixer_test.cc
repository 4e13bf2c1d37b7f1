// The mixers `performer` and `slim` beside what all mixers are tested for.
#include <string>

#include "tests/worker/model/model_fixture.h"

namespace weft::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ModelFixture;
using testing::NewCpu;
using testing::NewReference;
using testing::ToHost;
using testing::Tokens;

ModelConfig Small(std::vector<MixerConfig> layers) {
  return {.vocabulary = 11, .width = 12, .hidden = 10, .layers = std::move(layers)};
}

TEST(LinearAttentionMixerTest, NamesAllProblemsAtOnce) {
  const absl::Status status = Validate(Small(
      {PerformerMixerConfig{.heads = 5, .feature_count = 0, .feature_epsilon = -1},
       PerformerMixerConfig{.heads = 4,
                            .features = FeatureFunction::kHyperbolic,
                            .feature_count = 9,
                            .denominator_epsilon = -2},
       SlimMixerConfig{.heads = 2, .features = FeatureFunction::kHyperbolic, .feature_factor = 0},
       SlimMixerConfig{.heads = 2, .feature_factor = 2, .denominator_epsilon = -3}}));
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("layers[0].heads is 5"), HasSubstr("layers[0].feature_count is 0"),
                    HasSubstr("layers[0].feature_epsilon is -1"),
                    HasSubstr("layers[1]: the head width 3 must be even"),
                    HasSubstr("layers[1].feature_count is 9 and must be even"),
                    HasSubstr("layers[1].denominator_epsilon is -2"),
                    HasSubstr("layers[2].features is hyperbolic")));
  EXPECT_THAT(status.message(), AllOf(HasSubstr("layers[2].feature_factor is 0"),
                                      HasSubstr("layers[3].feature_factor is 2"),
                                      HasSubstr("layers[3].denominator_epsilon is -3")));
}

TEST(LinearAttentionMixerTest, FeaturesHaveNoWeightsToDrop) {
  ModelConfig config = Small({PerformerMixerConfig{.heads = 2}, SlimMixerConfig{.heads = 2}});
  config.dropout.attention = 0.1;
  EXPECT_THAT(Validate(config).message(),
              AllOf(HasSubstr("layers[0]: performer has no attention weights"),
                    HasSubstr("layers[1]: slim has no attention weights")));
}

// Random rows are drawn from the seed for each layer, are part of the weights, and are not trained.
TEST(LinearAttentionMixerTest, RandomRowsFollowFromTheSeedAndTheLayer) {
  const PerformerMixerConfig performer{
      .heads = 2, .feature_count = 9, .rows = kernels::FeatureRows::kIndependent};
  const SlimMixerConfig slim{
      .heads = 3, .features = FeatureFunction::kExponential, .feature_factor = 2};
  ModelFixture fixture(Small({performer, performer, slim}), NewReference(), {});
  const ParameterLayout& layout = fixture.model().layout();
  const std::vector<double> weights = ToHost(fixture.weights().block(), fixture.stream());
  int found = 0;
  for (const Parameter& parameter : layout.parameters()) {
    for (uint32_t layer = 0; layer < 3; ++layer) {
      if (parameter.name != absl::StrCat("layers.", layer, ".mixer.features")) continue;
      ++found;
      EXPECT_FALSE(parameter.trained);
      const bool is_slim = layer == 2;
      const std::vector<double> want = kernels::FeatureMatrix(
          /*seed=*/1, layer,
          is_slim ? kernels::FeatureRows::kOrthogonalEqualLengths
                  : kernels::FeatureRows::kIndependent,
          is_slim ? 8 : 9, is_slim ? 4 : 6);
      ASSERT_EQ(parameter.shape.count(), static_cast<int64_t>(want.size()));
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(weights[static_cast<size_t>(parameter.offset) + i],
                  static_cast<double>(static_cast<float>(want[i])));
      }
    }
  }
  EXPECT_EQ(found, 3);
}

// What the published Performer code lets through: one key that stands out, far behind.
TEST(LinearAttentionMixerTest, ALaterTokenChangesNoEarlierBitOnTheCpu) {
  const PassShape shape{.batch = 1, .tokens = 200};
  ModelFixture fixture(Small({PerformerMixerConfig{.heads = 2, .feature_epsilon = 1e-3}}),
                       NewCpu(2), shape);
  fixture.EnlargeWeights();
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

}  // namespace
}  // namespace weft::worker
