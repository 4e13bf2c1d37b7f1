// The mixer `scatterbrain` beside what all mixers are tested for.
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

TEST(ScatterbrainMixerTest, NamesAllProblemsAtOnce) {
  const absl::Status status = Validate(Small(
      {ScatterbrainMixerConfig{.heads = 5, .support = ScatterbrainWindow{.width = 0}},
       ScatterbrainMixerConfig{
           .heads = 2, .support = ScatterbrainHash{.rounds = 0, .bucket = -1}, .feature_count = 9},
       ScatterbrainMixerConfig{.heads = 2,
                               .support = kernels::BlockPattern{.window = 2},
                               .feature_count = -2,
                               .feature_epsilon = -1}}));
  EXPECT_THAT(
      status.message(),
      AllOf(HasSubstr("layers[0].heads is 5"), HasSubstr("layers[0].window.width is 0"),
            HasSubstr("layers[1].hash.rounds is 0"), HasSubstr("layers[1].hash.bucket is -1"),
            HasSubstr("layers[1].feature_count is 9 and must be even"),
            HasSubstr("layers[2].blocks: window 2 is neither odd nor 0"),
            HasSubstr("layers[2].feature_count is -2"),
            HasSubstr("layers[2].feature_epsilon is -1")));
}

// Random rows are drawn from the seed for each layer, are part of the weights, and are not trained.
TEST(ScatterbrainMixerTest, RandomRowsFollowFromTheSeedAndTheLayer) {
  const ScatterbrainMixerConfig plain{.heads = 2,
                                      .feature_count = 9,
                                      .hyperbolic = false,
                                      .rows = kernels::FeatureRows::kIndependent};
  // Heads of width 6: 6 ln 6 = 10.75, so 10 features of 5 rows.
  ModelFixture fixture(Small({plain, ScatterbrainMixerConfig{.heads = 2}}), NewReference(), {});
  const std::vector<double> weights = ToHost(fixture.weights().block(), fixture.stream());
  int found = 0;
  for (const Parameter& parameter : fixture.model().layout().parameters()) {
    for (uint32_t layer = 0; layer < 2; ++layer) {
      if (parameter.name != absl::StrCat("layers.", layer, ".mixer.features")) continue;
      ++found;
      EXPECT_FALSE(parameter.trained);
      const std::vector<double> want = kernels::FeatureMatrix(
          /*seed=*/1, layer,
          layer == 0 ? kernels::FeatureRows::kIndependent : kernels::FeatureRows::kOrthogonal,
          layer == 0 ? 9 : 5, 6);
      ASSERT_EQ(parameter.shape.count(), static_cast<int64_t>(want.size()));
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(weights[static_cast<size_t>(parameter.offset) + i],
                  static_cast<double>(static_cast<float>(want[i])));
      }
    }
  }
  EXPECT_EQ(found, 2);
}

class HashedModel : public ::testing::Test {
 protected:
  static constexpr int64_t kTokens = 40;

  HashedModel() { fixture_.EnlargeWeights(); }

  std::vector<double> Losses(const DrawPlace& place) {
    fixture_.Train(place);
    fixture_.SetBatch(tokens_, Tokens(2 * kTokens, 11, 3));
    return fixture_.Losses();
  }

  ModelFixture fixture_{Small({ScatterbrainMixerConfig{
                            .heads = 2, .support = ScatterbrainHash{.rounds = 2, .bucket = 8}}}),
                        NewCpu(2),
                        {.batch = 2, .tokens = kTokens}};
  std::vector<int32_t> tokens_ = Tokens(2 * kTokens, 11, 2);
};

TEST_F(HashedModel, HashesAnewForEveryStepAndForEvaluation) {
  const DrawPlace place{.seed = 7, .step = 3, .training = true};
  const std::vector<double> losses = Losses(place);
  EXPECT_EQ(Losses(place), losses);
  EXPECT_NE(Losses({.seed = 7, .step = 4, .training = true}), losses);
  EXPECT_NE(Losses({.seed = 8, .step = 3, .training = true}), losses);
  EXPECT_NE(Losses({.seed = 7, .step = 3, .training = false}), losses);
}

TEST_F(HashedModel, HashesAllPartsOfABatchAlike) {
  const std::vector<double> losses = Losses({.seed = 7, .step = 3, .training = true});
  EXPECT_EQ(Losses({.seed = 7, .step = 3, .first_sequence = 6, .training = true}), losses);
  // The second sequence stays what it is beside another first one.
  for (size_t t = 0; t < kTokens; ++t) tokens_[t] = (tokens_[t] + 3) % 11;
  const std::vector<double> beside = Losses({.seed = 7, .step = 3, .training = true});
  EXPECT_TRUE(std::equal(losses.begin() + kTokens, losses.end(), beside.begin() + kTokens));
  EXPECT_FALSE(std::equal(losses.begin(), losses.begin() + kTokens, beside.begin()));
}

// With epsilon the keys' maxima matter, and those of later keys must not.
TEST(ScatterbrainMixerTest, ALaterTokenChangesNoEarlierBitOnTheCpu) {
  const PassShape shape{.batch = 1, .tokens = 200};
  for (const ScatterbrainSupport& support :
       {ScatterbrainSupport(ScatterbrainWindow{.width = 24}),
        ScatterbrainSupport(kernels::BlockPattern{.block = 16, .random = 2})}) {
    ModelFixture fixture(
        Small({ScatterbrainMixerConfig{.heads = 2, .support = support, .feature_epsilon = 1e-3}}),
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
}

}  // namespace
}  // namespace weft::worker
