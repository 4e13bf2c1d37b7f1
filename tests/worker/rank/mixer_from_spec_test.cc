#include "worker/rank/mixer_from_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/spec/parse.h"
#include "proto/spec/resolve.h"

namespace weft::worker {
namespace {

using ::testing::IsEmpty;

MixerConfig Mixer(const std::string& mixer) {
  const std::string text = absl::StrCat("name: a\nmodel: {width: 48, layers: 1, mixers: [", mixer,
                                        "]}\ndata: {text: {paths: [/texts]}}\n"
                                        "training: {steps: 1, batch_size: 1, sequence_length: 8}");
  v1::JobSpec spec;
  EXPECT_THAT(spec::ParseSpec(text, spec), IsEmpty()) << text;
  EXPECT_THAT(spec::ResolveSpec(spec), IsEmpty()) << text;
  return MixerFromSpec(spec.model().mixers(0));
}

TEST(MixerFromSpecTest, CarriesEveryFieldOfAPerformer) {
  const auto mixer = std::get<PerformerMixerConfig>(
      Mixer("{performer: {heads: 4, rotary_base: 50, features: hyperbolic, feature_count: 34, "
            "rows: independent, feature_epsilon: 0.25, denominator_epsilon: 0.125}}"));
  EXPECT_EQ(mixer.heads, 4);
  EXPECT_EQ(mixer.rotary_base, 50);
  EXPECT_EQ(mixer.features, FeatureFunction::kHyperbolic);
  EXPECT_EQ(mixer.feature_count, 34);
  EXPECT_EQ(mixer.rows, kernels::FeatureRows::kIndependent);
  EXPECT_EQ(mixer.feature_epsilon, 0.25);
  EXPECT_EQ(mixer.denominator_epsilon, 0.125);
}

TEST(MixerFromSpecTest, CarriesEveryFieldOfSlim) {
  const auto mixer = std::get<SlimMixerConfig>(
      Mixer("{slim: {heads: 6, rotary_base: 70, features: exponential, feature_factor: 3, "
            "denominator_epsilon: 0.5}}"));
  EXPECT_EQ(mixer.heads, 6);
  EXPECT_EQ(mixer.rotary_base, 70);
  EXPECT_EQ(mixer.features, FeatureFunction::kExponential);
  EXPECT_EQ(mixer.feature_factor, 3);
  EXPECT_EQ(mixer.denominator_epsilon, 0.5);
}

TEST(MixerFromSpecTest, CarriesEveryFieldOfPolysketch) {
  const auto mixer = std::get<PolysketchMixerConfig>(
      Mixer("{polysketch: {heads: 3, rotary_base: 90, mode: random_sketch_mixed, norm: none, "
            "degree: 8, sketch_size: 16, block: 77, sketch_scale: official, hadamard: true, "
            "c0: 0.25, kappa: 3}}"));
  EXPECT_EQ(mixer.heads, 3);
  EXPECT_EQ(mixer.rotary_base, 90);
  EXPECT_EQ(mixer.mode, PolysketchMode::kRandomSketchMixed);
  EXPECT_EQ(mixer.norm, PolysketchNorm::kNone);
  EXPECT_EQ(mixer.degree, 8);
  EXPECT_EQ(mixer.sketch_size, 16);
  EXPECT_EQ(mixer.block, 77);
  EXPECT_EQ(mixer.sketch_scale, kernels::SketchScale::kOfficial);
  EXPECT_EQ(mixer.sketch_matrices, kernels::SketchMatrices::kHadamard);
  EXPECT_EQ(mixer.c0, 0.25);
  EXPECT_EQ(mixer.kappa, 3);
}

TEST(MixerFromSpecTest, KnowsEveryModeAndNormOfPolysketch) {
  const std::pair<const char*, PolysketchMode> modes[] = {
      {"polynomial", PolysketchMode::kPolynomial},
      {"random_sketch", PolysketchMode::kRandomSketch},
      {"learned_sketch", PolysketchMode::kLearnedSketch},
      {"random_sketch_mixed", PolysketchMode::kRandomSketchMixed},
      {"learned_sketch_mixed", PolysketchMode::kLearnedSketchMixed}};
  for (const auto& [name, mode] : modes) {
    const MixerConfig mixer = Mixer(absl::StrCat("{polysketch: {heads: 4, mode: ", name, "}}"));
    EXPECT_EQ(std::get<PolysketchMixerConfig>(mixer).mode, mode);
  }
  const std::pair<const char*, PolysketchNorm> norms[] = {{"none", PolysketchNorm::kNone},
                                                          {"shared", PolysketchNorm::kShared},
                                                          {"separate", PolysketchNorm::kSeparate}};
  for (const auto& [name, norm] : norms) {
    const MixerConfig mixer =
        Mixer(absl::StrCat("{polysketch: {heads: 4, mode: polynomial, norm: ", name, "}}"));
    EXPECT_EQ(std::get<PolysketchMixerConfig>(mixer).norm, norm);
  }
}

TEST(MixerFromSpecTest, CarriesEveryFieldOfSbm) {
  const auto mixer = std::get<SbmMixerConfig>(
      Mixer("{sbm: {heads: 3, rotary_base: 90, clusters: 7, sampler: exact, exploration: 0.125, "
            "straight_through: logit, clip: 0.5, density_weight: 0.25}}"));
  EXPECT_EQ(mixer.heads, 3);
  EXPECT_EQ(mixer.rotary_base, 90);
  EXPECT_EQ(mixer.clusters, 7);
  EXPECT_EQ(mixer.exploration, 0.125);
  EXPECT_EQ(mixer.straight_through, kernels::SbmStraightThrough::kLogit);
  EXPECT_EQ(mixer.clip, 0.5);
  EXPECT_EQ(mixer.density_weight, 0.25);
  const std::pair<const char*, kernels::SbmSampler> samplers[] = {
      {"poisson", kernels::SbmSampler::kPoisson},
      {"poisson_copies", kernels::SbmSampler::kPoissonCopies},
      {"exact", kernels::SbmSampler::kExact},
      {"dense", kernels::SbmSampler::kDense}};
  for (const auto& [name, sampler] : samplers) {
    const auto other = std::get<SbmMixerConfig>(
        Mixer(absl::StrCat("{sbm: {heads: 4, clip: 0, sampler: ", name, "}}")));
    EXPECT_EQ(other.sampler, sampler);
    EXPECT_EQ(other.straight_through, kernels::SbmStraightThrough::kMask);
    EXPECT_TRUE(std::isinf(other.clip));
  }
}

TEST(MixerFromSpecTest, CarriesEveryFieldOfScatterbrain) {
  const auto mixer = std::get<ScatterbrainMixerConfig>(
      Mixer("{scatterbrain: {heads: 3, rotary_base: 90, features: exponential, feature_count: 77, "
            "rows: independent, feature_epsilon: 0.25, dropped: correction, window: {width: 9}}}"));
  EXPECT_EQ(mixer.heads, 3);
  EXPECT_EQ(mixer.rotary_base, 90);
  EXPECT_FALSE(mixer.hyperbolic);
  EXPECT_EQ(mixer.feature_count, 77);
  EXPECT_EQ(mixer.rows, kernels::FeatureRows::kIndependent);
  EXPECT_EQ(mixer.feature_epsilon, 0.25);
  EXPECT_EQ(mixer.dropped, kernels::ScatterbrainProblem::Dropped::kCorrection);
  EXPECT_EQ(std::get<ScatterbrainWindow>(mixer.support).width, 9);
  const auto hashed = std::get<ScatterbrainMixerConfig>(
      Mixer("{scatterbrain: {heads: 4, hash: {rounds: 3, bucket: 5}}}"));
  EXPECT_TRUE(hashed.hyperbolic);
  EXPECT_EQ(hashed.dropped, kernels::ScatterbrainProblem::Dropped::kExact);
  EXPECT_EQ(std::get<ScatterbrainHash>(hashed.support).rounds, 3);
  EXPECT_EQ(std::get<ScatterbrainHash>(hashed.support).bucket, 5);
  const auto blocks = std::get<kernels::BlockPattern>(
      std::get<ScatterbrainMixerConfig>(Mixer("{scatterbrain: {heads: 4, blocks: {block: 7, "
                                              "window: 5, global: 2, random: 6, stride: 4, "
                                              "summary: 3}}}"))
          .support);
  EXPECT_EQ(blocks.block, 7);
  EXPECT_EQ(blocks.window, 5);
  EXPECT_EQ(blocks.global, 2);
  EXPECT_EQ(blocks.random, 6);
  EXPECT_EQ(blocks.stride, 4);
  EXPECT_EQ(blocks.summary, 3);
}

TEST(MixerFromSpecTest, KnowsEveryFeatureFunctionAndKindOfRows) {
  const std::pair<const char*, FeatureFunction> functions[] = {
      {"square", FeatureFunction::kSquare},
      {"relu", FeatureFunction::kRelu},
      {"elu1", FeatureFunction::kElu1},
      {"magnitude", FeatureFunction::kMagnitude},
      {"exponential", FeatureFunction::kExponential},
      {"hyperbolic", FeatureFunction::kHyperbolic}};
  for (const auto& [name, function] : functions) {
    const MixerConfig mixer = Mixer(absl::StrCat("{performer: {heads: 4, features: ", name, "}}"));
    EXPECT_EQ(std::get<PerformerMixerConfig>(mixer).features, function);
    EXPECT_EQ(NameOf(function), name);
  }
  const std::pair<const char*, kernels::FeatureRows> kinds[] = {
      {"independent", kernels::FeatureRows::kIndependent},
      {"orthogonal", kernels::FeatureRows::kOrthogonal},
      {"orthogonal_equal_lengths", kernels::FeatureRows::kOrthogonalEqualLengths}};
  for (const auto& [name, kind] : kinds) {
    const MixerConfig mixer = Mixer(absl::StrCat("{performer: {heads: 4, rows: ", name, "}}"));
    EXPECT_EQ(std::get<PerformerMixerConfig>(mixer).rows, kind);
  }
}

// Two jobs whose mixers differ in anything have different fingerprints.
TEST(MixerFromSpecTest, EveryFieldIsInTheCanonicalText) {
  const std::string performer = "heads: 4, features: exponential";
  const std::string slim = "heads: 4, features: exponential";
  for (const char* change : {"rotary_base: 9", "feature_count: 64", "rows: independent",
                             "feature_epsilon: 0.5", "denominator_epsilon: 0.5"}) {
    EXPECT_NE(Canonical(Mixer(absl::StrCat("{performer: {", performer, ", ", change, "}}"))),
              Canonical(Mixer(absl::StrCat("{performer: {", performer, "}}"))))
        << change;
  }
  for (const char* change : {"rotary_base: 9", "feature_factor: 2", "denominator_epsilon: 0.5"}) {
    EXPECT_NE(Canonical(Mixer(absl::StrCat("{slim: {", slim, ", ", change, "}}"))),
              Canonical(Mixer(absl::StrCat("{slim: {", slim, "}}"))))
        << change;
  }
  const std::string sketch = "heads: 3, mode: random_sketch, degree: 8";
  for (const char* change : {"rotary_base: 9", "norm: none", "sketch_size: 64", "block: 64",
                             "sketch_scale: official", "hadamard: true", "c0: 0", "kappa: 7"}) {
    EXPECT_NE(Canonical(Mixer(absl::StrCat("{polysketch: {", sketch, ", ", change, "}}"))),
              Canonical(Mixer(absl::StrCat("{polysketch: {", sketch, "}}"))))
        << change;
  }
  for (const char* change :
       {"{polysketch: {heads: 3, degree: 2}}",
        "{polysketch: {heads: 3, mode: random_sketch_mixed}}", "{polysketch: {heads: 4}}"}) {
    EXPECT_NE(Canonical(Mixer(change)), Canonical(Mixer("{polysketch: {heads: 3}}"))) << change;
  }
  const std::string scatterbrain = "{scatterbrain: {heads: 4, ";
  for (const char* change :
       {"rotary_base: 9, window: {width: 8}", "feature_count: 64, window: {width: 8}",
        "rows: independent, window: {width: 8}", "feature_epsilon: 0.5, window: {width: 8}",
        "dropped: correction, window: {width: 8}", "features: exponential, window: {width: 8}",
        "window: {width: 9}", "hash: {bucket: 8}"}) {
    EXPECT_NE(Canonical(Mixer(absl::StrCat(scatterbrain, change, "}}"))),
              Canonical(Mixer(absl::StrCat(scatterbrain, "window: {width: 8}}}"))))
        << change;
  }
  EXPECT_NE(Canonical(Mixer("{scatterbrain: {heads: 4, hash: {bucket: 8}}}")),
            Canonical(Mixer("{scatterbrain: {heads: 4, hash: {bucket: 8, rounds: 3}}}")));
  EXPECT_NE(Canonical(Mixer("{scatterbrain: {heads: 4, hash: {bucket: 8}}}")),
            Canonical(Mixer("{scatterbrain: {heads: 4, hash: {bucket: 9}}}")));
  for (const char* change :
       {"block: 8", "window: 1", "global: 1", "random: 1", "stride: 2", "stride: 2, summary: 0"}) {
    EXPECT_NE(Canonical(Mixer(absl::StrCat(scatterbrain, "blocks: {", change, "}}}"))),
              Canonical(Mixer(absl::StrCat(scatterbrain, "blocks: {}}}"))))
        << change;
  }
  EXPECT_NE(Canonical(Mixer("{slim: {heads: 4}}")), Canonical(Mixer("{slim: {heads: 6}}")));
  EXPECT_NE(Canonical(Mixer("{slim: {heads: 4}}")),
            Canonical(Mixer("{slim: {heads: 4, features: relu}}")));
}

}  // namespace
}  // namespace weft::worker
