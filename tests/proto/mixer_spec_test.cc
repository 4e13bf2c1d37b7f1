// The mixers of a job spec: defaults, and one sentence for everything that does not fit.

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/spec/parse.h"
#include "proto/spec/print.h"
#include "proto/spec/resolve.h"

namespace weft::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A model with one mixer.
v1::JobSpec SpecWith(const std::string& mixer, int width = 48) {
  const std::string text =
      absl::StrCat("name: a\nmodel: {width: ", width, ", layers: 1, mixers: [", mixer, R"(]}
data: {text: {paths: [/texts]}}
training: {steps: 1, batch_size: 1, sequence_length: 8}
)");
  v1::JobSpec spec;
  EXPECT_THAT(ParseSpec(text, spec), IsEmpty()) << text;
  return spec;
}

v1::MixerSpec Resolved(const std::string& mixer, int width = 48) {
  v1::JobSpec spec = SpecWith(mixer, width);
  EXPECT_THAT(ResolveSpec(spec), IsEmpty()) << mixer;
  return spec.model().mixers(0);
}

TEST(MixerSpec, PerformersTakeTheDefaultsOfTheirFeatures) {
  const v1::PerformerSpec random = Resolved("{performer: {heads: 4}}").performer();
  EXPECT_EQ(random.rotary_base(), 10000);
  EXPECT_EQ(random.features(), v1::FEATURE_FUNCTION_EXPONENTIAL);
  EXPECT_EQ(random.feature_count(), 256);
  EXPECT_EQ(random.rows(), v1::FEATURE_ROWS_ORTHOGONAL);
  EXPECT_EQ(random.feature_epsilon(), 1e-6);
  EXPECT_EQ(random.denominator_epsilon(), 1e-6);
  const v1::PerformerSpec plain = Resolved("{performer: {heads: 4, features: relu}}").performer();
  EXPECT_EQ(plain.feature_count(), 0);
  EXPECT_EQ(plain.feature_epsilon(), 1e-3);
  EXPECT_EQ(plain.denominator_epsilon(), 0);
}

TEST(MixerSpec, SlimTakesItsDefaults) {
  const v1::SlimSpec slim = Resolved("{slim: {heads: 3}}").slim();
  EXPECT_EQ(slim.rotary_base(), 0);
  EXPECT_EQ(slim.features(), v1::FEATURE_FUNCTION_SQUARE);
  EXPECT_EQ(slim.feature_factor(), 1);
  EXPECT_EQ(slim.denominator_epsilon(), 1e-16);
}

TEST(MixerSpec, PolysketchTakesTheDefaultsOfItsMode) {
  using Spec = v1::PolysketchSpec;
  const Spec mixed = Resolved("{polysketch: {heads: 4}}").polysketch();
  EXPECT_EQ(mixed.rotary_base(), 10000);
  EXPECT_EQ(mixed.mode(), Spec::MODE_LEARNED_SKETCH_MIXED);
  EXPECT_EQ(mixed.norm(), Spec::NORM_SEPARATE);
  EXPECT_EQ(mixed.degree(), 4);
  EXPECT_EQ(mixed.sketch_size(), 32);
  EXPECT_EQ(mixed.block(), 256);
  EXPECT_EQ(mixed.sketch_scale(), Spec::SKETCH_SCALE_UNBIASED);
  EXPECT_FALSE(mixed.hadamard());
  EXPECT_EQ(mixed.c0(), 1);
  EXPECT_EQ(mixed.kappa(), 12);
  const Spec learned = Resolved("{polysketch: {heads: 4, mode: learned_sketch}}").polysketch();
  EXPECT_EQ(learned.norm(), Spec::NORM_NONE);
  EXPECT_EQ(learned.block(), 128);
  EXPECT_EQ(learned.kappa(), 1);
  const Spec exact = Resolved("{polysketch: {heads: 4, mode: polynomial}}").polysketch();
  EXPECT_EQ(exact.norm(), Spec::NORM_SHARED);
  EXPECT_EQ(exact.kappa(), 12);
}

TEST(MixerSpec, ScatterbrainTakesItsDefaults) {
  const v1::ScatterbrainSpec window =
      Resolved("{scatterbrain: {heads: 4, window: {width: 9}}}").scatterbrain();
  EXPECT_EQ(window.rotary_base(), 10000);
  EXPECT_EQ(window.features(), v1::FEATURE_FUNCTION_HYPERBOLIC);
  EXPECT_EQ(window.feature_count(), 28);                                     // 12 ln 12 = 29.8
  for (const auto& [width, features] : {std::pair{128, 110}, {256, 266}}) {  // heads of 32 and 64
    EXPECT_EQ(Resolved("{scatterbrain: {heads: 4, window: {width: 9}}}", width)
                  .scatterbrain()
                  .feature_count(),
              features);
  }
  EXPECT_EQ(window.rows(), v1::FEATURE_ROWS_ORTHOGONAL);
  EXPECT_EQ(window.feature_epsilon(), 0);
  EXPECT_EQ(window.dropped(), v1::ScatterbrainSpec::DROPPED_EXACT);
  EXPECT_EQ(
      Resolved("{scatterbrain: {heads: 4, hash: {bucket: 9}}}").scatterbrain().hash().rounds(), 2);
  const v1::ScatterbrainBlocks blocks =
      Resolved("{scatterbrain: {heads: 4, blocks: {}}}").scatterbrain().blocks();
  EXPECT_EQ(blocks.block(), 32);
  EXPECT_EQ(blocks.window(), 3);
  EXPECT_EQ(blocks.global() + blocks.random() + blocks.stride() + blocks.summary(), 0);
  EXPECT_EQ(
      Resolved("{scatterbrain: {heads: 4, blocks: {stride: 4}}}").scatterbrain().blocks().summary(),
      1);
}

TEST(MixerSpec, SbmTakesItsDefaults) {
  const v1::SbmSpec sbm = Resolved("{sbm: {heads: 4}}").sbm();
  EXPECT_EQ(sbm.rotary_base(), 10000);
  EXPECT_EQ(sbm.clusters(), 128);
  EXPECT_EQ(sbm.sampler(), v1::SbmSpec::SAMPLER_POISSON);
  EXPECT_EQ(sbm.exploration(), 0.01);
  EXPECT_EQ(sbm.straight_through(), v1::SbmSpec::STRAIGHT_THROUGH_MASK);
  EXPECT_EQ(sbm.clip(), 1);
  EXPECT_EQ(sbm.density_weight(), 1e-4);
}

TEST(MixerSpec, IsReadBackUnchanged) {
  for (const char* mixer :
       {"{performer: {heads: 4, features: hyperbolic, rows: orthogonal_equal_lengths}}",
        "{slim: {heads: 3, features: exponential, feature_factor: 2, denominator_epsilon: 0}}",
        "{scatterbrain: {heads: 4, dropped: correction, blocks: {window: 0, global: 2}}}",
        "{scatterbrain: {heads: 4, features: exponential, hash: {bucket: 7}}}",
        "{sbm: {heads: 4, sampler: dense, straight_through: logit, clip: 0, density_weight: 0}}",
        "{polysketch: {heads: 3, mode: random_sketch_mixed, norm: none, sketch_scale: official, "
        "hadamard: true, c0: 0, kappa: 0.5}}"}) {
    v1::JobSpec spec = SpecWith(mixer);
    ASSERT_THAT(ResolveSpec(spec), IsEmpty());
    v1::JobSpec again;
    ASSERT_THAT(ParseSpec(SpecToYaml(spec), again), IsEmpty());
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, again)) << mixer;
  }
}

struct BadMixer {
  const char* name;
  const char* mixer;
  const char* field;  // below model.mixers[0]
  const char* says;
};

class MixerSpecRefuses : public ::testing::TestWithParam<BadMixer> {};

TEST_P(MixerSpecRefuses, WithOneSentence) {
  v1::JobSpec spec = SpecWith(GetParam().mixer);
  const std::vector<Violation> violations = ResolveSpec(spec);
  ASSERT_EQ(violations.size(), 1U);
  EXPECT_EQ(violations[0].field, absl::StrCat("model.mixers[0].", GetParam().field));
  EXPECT_THAT(violations[0].description, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, MixerSpecRefuses,
    ::testing::Values(
        BadMixer{"PerformerHeads", "{performer: {heads: 5}}", "performer.heads", "must divide"},
        BadMixer{"PerformerOddHeads", "{performer: {heads: 16}}", "performer.heads", "even"},
        BadMixer{"PerformerRotaryBase", "{performer: {heads: 4, rotary_base: 1}}",
                 "performer.rotary_base", "0 or greater than 1"},
        BadMixer{"PerformerNoFeatures", "{performer: {heads: 4, feature_count: 0}}",
                 "performer.feature_count", "1 to 65536"},
        BadMixer{"PerformerOddFeatures",
                 "{performer: {heads: 4, features: hyperbolic, feature_count: 7}}",
                 "performer.feature_count", "even"},
        BadMixer{"PerformerFeatureEpsilon", "{performer: {heads: 4, feature_epsilon: -1}}",
                 "performer.feature_epsilon", "0 to 1"},
        BadMixer{"PerformerDenominatorEpsilon", "{performer: {heads: 4, denominator_epsilon: 2}}",
                 "performer.denominator_epsilon", "0 to 1"},
        BadMixer{"PolysketchHeads", "{polysketch: {heads: 5}}", "polysketch.heads", "must divide"},
        BadMixer{"PolysketchOddHeads", "{polysketch: {heads: 16}}", "polysketch.heads", "even"},
        BadMixer{"PolysketchDegree", "{polysketch: {heads: 4, degree: 3}}", "polysketch.degree",
                 "2, 4 or 8"},
        BadMixer{"PolysketchRandomDegree",
                 "{polysketch: {heads: 4, mode: random_sketch, degree: 2}}", "polysketch.degree",
                 "4 or 8 for random sketches"},
        BadMixer{"PolysketchNorm", "{polysketch: {heads: 4, mode: learned_sketch, norm: shared}}",
                 "polysketch.norm", "none for learned_sketch"},
        BadMixer{"PolysketchSize", "{polysketch: {heads: 4, sketch_size: 257}}",
                 "polysketch.sketch_size", "1 to 256"},
        BadMixer{"PolysketchBlock", "{polysketch: {heads: 4, block: 0}}", "polysketch.block",
                 "1 to"},
        BadMixer{"PolysketchHadamardMode", "{polysketch: {heads: 3, hadamard: true}}",
                 "polysketch.hadamard", "for random sketches"},
        BadMixer{"PolysketchHadamardWidth",
                 "{polysketch: {heads: 4, mode: random_sketch, hadamard: true}}",
                 "polysketch.hadamard", "power of two for model.width / heads, is 12"},
        BadMixer{"PolysketchHadamardSize",
                 "{polysketch: {heads: 3, mode: random_sketch, hadamard: true, degree: 8, "
                 "sketch_size: 24}}",
                 "polysketch.hadamard", "sketch_size"},
        BadMixer{"PolysketchC0", "{polysketch: {heads: 4, c0: -1}}", "polysketch.c0", "0 to"},
        BadMixer{"PolysketchKappa", "{polysketch: {heads: 4, kappa: 0}}", "polysketch.kappa",
                 "greater than 0"},
        BadMixer{"SbmHeads", "{sbm: {heads: 5}}", "sbm.heads", "must divide"},
        BadMixer{"SbmOddHeads", "{sbm: {heads: 16}}", "sbm.heads", "even"},
        BadMixer{"SbmClusters", "{sbm: {heads: 4, clusters: 0}}", "sbm.clusters", "1 to 16384"},
        BadMixer{"SbmExploration", "{sbm: {heads: 4, exploration: 0.6}}", "sbm.exploration",
                 "0 to 0.5"},
        BadMixer{"SbmClip", "{sbm: {heads: 4, clip: -1}}", "sbm.clip", "0 to"},
        BadMixer{"SbmDensityWeight", "{sbm: {heads: 4, density_weight: -1}}", "sbm.density_weight",
                 "0 to"},
        BadMixer{"ScatterbrainHeads", "{scatterbrain: {heads: 5, window: {width: 9}}}",
                 "scatterbrain.heads", "must divide"},
        BadMixer{"ScatterbrainOddHeads", "{scatterbrain: {heads: 16, window: {width: 9}}}",
                 "scatterbrain.heads", "even"},
        BadMixer{"ScatterbrainSupport", "{scatterbrain: {heads: 4}}", "scatterbrain",
                 "one of blocks, hash, window"},
        BadMixer{"ScatterbrainFeatures",
                 "{scatterbrain: {heads: 4, features: relu, window: {width: 9}}}",
                 "scatterbrain.features", "exponential or hyperbolic"},
        BadMixer{"ScatterbrainFeatureCount",
                 "{scatterbrain: {heads: 4, feature_count: 7, window: {width: 9}}}",
                 "scatterbrain.feature_count", "even"},
        BadMixer{"ScatterbrainFeatureEpsilon",
                 "{scatterbrain: {heads: 4, feature_epsilon: -1, window: {width: 9}}}",
                 "scatterbrain.feature_epsilon", "0 to 1"},
        BadMixer{"ScatterbrainWindow", "{scatterbrain: {heads: 4, window: {}}}",
                 "scatterbrain.window.width", "1 to 1048576"},
        BadMixer{"ScatterbrainRounds", "{scatterbrain: {heads: 4, hash: {bucket: 8, rounds: 0}}}",
                 "scatterbrain.hash.rounds", "1 to 64"},
        BadMixer{"ScatterbrainBucket", "{scatterbrain: {heads: 4, hash: {}}}",
                 "scatterbrain.hash.bucket", "1 to 65536"},
        BadMixer{"ScatterbrainBlock", "{scatterbrain: {heads: 4, blocks: {block: 0}}}",
                 "scatterbrain.blocks.block", "1 to 65536"},
        BadMixer{"ScatterbrainBlockWindow", "{scatterbrain: {heads: 4, blocks: {window: 4}}}",
                 "scatterbrain.blocks.window", "odd"},
        BadMixer{"ScatterbrainSummary",
                 "{scatterbrain: {heads: 4, blocks: {stride: 2, summary: 3}}}",
                 "scatterbrain.blocks.summary", "0 to 2"},
        BadMixer{"ScatterbrainNoBlocks", "{scatterbrain: {heads: 4, blocks: {window: 0}}}",
                 "scatterbrain.blocks", "not 0"},
        BadMixer{"SlimHeads", "{slim: {heads: 0}}", "slim.heads", "is 0 or missing"},
        BadMixer{"SlimHyperbolic", "{slim: {heads: 3, features: hyperbolic}}", "slim.features",
                 "not be hyperbolic"},
        BadMixer{"SlimFactor", "{slim: {heads: 3, feature_factor: 2}}", "slim.feature_factor",
                 "not random"},
        BadMixer{"SlimFactorRange",
                 "{slim: {heads: 3, features: exponential, feature_factor: 257}}",
                 "slim.feature_factor", "1 to 256"},
        BadMixer{"SlimDenominatorEpsilon", "{slim: {heads: 3, denominator_epsilon: -1e-9}}",
                 "slim.denominator_epsilon", "0 to 1"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace weft::spec
