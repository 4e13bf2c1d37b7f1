#include "worker/rank/mixer_from_spec.h"

#include <limits>

namespace weft::worker {
namespace {

FeatureFunction FeaturesFromSpec(v1::FeatureFunction features) {
  switch (features) {
    case v1::FEATURE_FUNCTION_RELU:
      return FeatureFunction::kRelu;
    case v1::FEATURE_FUNCTION_ELU1:
      return FeatureFunction::kElu1;
    case v1::FEATURE_FUNCTION_MAGNITUDE:
      return FeatureFunction::kMagnitude;
    case v1::FEATURE_FUNCTION_EXPONENTIAL:
      return FeatureFunction::kExponential;
    case v1::FEATURE_FUNCTION_HYPERBOLIC:
      return FeatureFunction::kHyperbolic;
    default:
      return FeatureFunction::kSquare;
  }
}

kernels::FeatureRows RowsFromSpec(v1::FeatureRows rows) {
  switch (rows) {
    case v1::FEATURE_ROWS_INDEPENDENT:
      return kernels::FeatureRows::kIndependent;
    case v1::FEATURE_ROWS_ORTHOGONAL_EQUAL_LENGTHS:
      return kernels::FeatureRows::kOrthogonalEqualLengths;
    default:
      return kernels::FeatureRows::kOrthogonal;
  }
}

PerformerMixerConfig PerformerFromSpec(const v1::PerformerSpec& spec) {
  return {.heads = spec.heads(),
          .rotary_base = spec.rotary_base(),
          .features = FeaturesFromSpec(spec.features()),
          .feature_count = spec.feature_count(),
          .rows = RowsFromSpec(spec.rows()),
          .feature_epsilon = spec.feature_epsilon(),
          .denominator_epsilon = spec.denominator_epsilon()};
}

PolysketchMode ModeFromSpec(v1::PolysketchSpec::Mode mode) {
  switch (mode) {
    case v1::PolysketchSpec::MODE_POLYNOMIAL:
      return PolysketchMode::kPolynomial;
    case v1::PolysketchSpec::MODE_RANDOM_SKETCH:
      return PolysketchMode::kRandomSketch;
    case v1::PolysketchSpec::MODE_LEARNED_SKETCH:
      return PolysketchMode::kLearnedSketch;
    case v1::PolysketchSpec::MODE_RANDOM_SKETCH_MIXED:
      return PolysketchMode::kRandomSketchMixed;
    default:
      return PolysketchMode::kLearnedSketchMixed;
  }
}

PolysketchNorm NormFromSpec(v1::PolysketchSpec::Norm norm) {
  switch (norm) {
    case v1::PolysketchSpec::NORM_NONE:
      return PolysketchNorm::kNone;
    case v1::PolysketchSpec::NORM_SHARED:
      return PolysketchNorm::kShared;
    default:
      return PolysketchNorm::kSeparate;
  }
}

PolysketchMixerConfig PolysketchFromSpec(const v1::PolysketchSpec& spec) {
  return {.heads = spec.heads(),
          .rotary_base = spec.rotary_base(),
          .mode = ModeFromSpec(spec.mode()),
          .norm = NormFromSpec(spec.norm()),
          .degree = spec.degree(),
          .sketch_size = spec.sketch_size(),
          .block = spec.block(),
          .sketch_scale = spec.sketch_scale() == v1::PolysketchSpec::SKETCH_SCALE_OFFICIAL
                              ? kernels::SketchScale::kOfficial
                              : kernels::SketchScale::kUnbiased,
          .sketch_matrices = spec.hadamard() ? kernels::SketchMatrices::kHadamard
                                             : kernels::SketchMatrices::kGaussian,
          .c0 = spec.c0(),
          .kappa = spec.kappa()};
}

ScatterbrainSupport SupportFromSpec(const v1::ScatterbrainSpec& spec) {
  if (spec.has_window()) return ScatterbrainWindow{.width = spec.window().width()};
  if (spec.has_hash()) {
    return ScatterbrainHash{.rounds = spec.hash().rounds(), .bucket = spec.hash().bucket()};
  }
  const v1::ScatterbrainBlocks& blocks = spec.blocks();
  return kernels::BlockPattern{.block = blocks.block(),
                               .window = blocks.window(),
                               .global = blocks.global(),
                               .random = blocks.random(),
                               .stride = blocks.stride(),
                               .summary = blocks.summary()};
}

ScatterbrainMixerConfig ScatterbrainFromSpec(const v1::ScatterbrainSpec& spec) {
  using Dropped = kernels::ScatterbrainProblem::Dropped;
  return {.heads = spec.heads(),
          .rotary_base = spec.rotary_base(),
          .support = SupportFromSpec(spec),
          .feature_count = spec.feature_count(),
          .hyperbolic = spec.features() == v1::FEATURE_FUNCTION_HYPERBOLIC,
          .rows = RowsFromSpec(spec.rows()),
          .feature_epsilon = spec.feature_epsilon(),
          .dropped = spec.dropped() == v1::ScatterbrainSpec::DROPPED_CORRECTION
                         ? Dropped::kCorrection
                         : Dropped::kExact};
}

kernels::SbmSampler SamplerFromSpec(v1::SbmSpec::Sampler sampler) {
  switch (sampler) {
    case v1::SbmSpec::SAMPLER_POISSON_COPIES:
      return kernels::SbmSampler::kPoissonCopies;
    case v1::SbmSpec::SAMPLER_EXACT:
      return kernels::SbmSampler::kExact;
    case v1::SbmSpec::SAMPLER_DENSE:
      return kernels::SbmSampler::kDense;
    default:
      return kernels::SbmSampler::kPoisson;
  }
}

SbmMixerConfig SbmFromSpec(const v1::SbmSpec& spec) {
  return {.heads = spec.heads(),
          .rotary_base = spec.rotary_base(),
          .clusters = spec.clusters(),
          .sampler = SamplerFromSpec(spec.sampler()),
          .exploration = spec.exploration(),
          .straight_through = spec.straight_through() == v1::SbmSpec::STRAIGHT_THROUGH_LOGIT
                                  ? kernels::SbmStraightThrough::kLogit
                                  : kernels::SbmStraightThrough::kMask,
          .clip = spec.clip() == 0.0 ? std::numeric_limits<double>::infinity() : spec.clip(),
          .density_weight = spec.density_weight()};
}

SlimMixerConfig SlimFromSpec(const v1::SlimSpec& spec) {
  return {.heads = spec.heads(),
          .rotary_base = spec.rotary_base(),
          .features = FeaturesFromSpec(spec.features()),
          .feature_factor = spec.feature_factor(),
          .denominator_epsilon = spec.denominator_epsilon()};
}

}  // namespace

MixerConfig MixerFromSpec(const v1::MixerSpec& spec) {
  if (spec.has_performer()) return PerformerFromSpec(spec.performer());
  if (spec.has_polysketch()) return PolysketchFromSpec(spec.polysketch());
  if (spec.has_scatterbrain()) return ScatterbrainFromSpec(spec.scatterbrain());
  if (spec.has_sbm()) return SbmFromSpec(spec.sbm());
  if (spec.has_slim()) return SlimFromSpec(spec.slim());
  if (spec.has_delta()) {
    const v1::DeltaSpec& delta = spec.delta();
    return DeltaMixerConfig{.heads = delta.heads(),
                            .convolution_taps = delta.convolution_taps(),
                            .negative_eigenvalues = delta.beta_range() > 1.0,
                            .output_gate = delta.output_gate()};
  }
  const v1::SoftmaxSpec& softmax = spec.softmax();
  return SoftmaxMixerConfig{.heads = softmax.heads(),
                            .kv_heads = softmax.kv_heads(),
                            .window = softmax.window(),
                            .rotary_base = softmax.rotary_base()};
}

}  // namespace weft::worker
