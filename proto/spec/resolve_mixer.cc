#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/spec/sections.h"

namespace weft::spec {
namespace {

bool IsCausal(const v1::ModelSpec& model) {
  return model.kind() == v1::ModelSpec::KIND_LANGUAGE_MODEL;
}

// Heads that divide the width; false when there is nothing to derive from them.
bool HeadsDivide(Rules& rules, const std::string& field, int32_t heads, int32_t width) {
  if (!rules.RequirePositive(field, heads)) return false;
  if (width > 0 && width % heads != 0) {
    rules.Report(field, absl::StrCat("must divide model.width (", width, "), is ", heads));
    return false;
  }
  return width > 0;
}

void ResolveDelta(Rules& rules, const std::string& path, v1::DeltaSpec& delta,
                  const v1::ModelSpec& model) {
  if (!IsCausal(model)) {
    rules.Report(path, "is for language models: its tokens see nothing that follows");
  }
  HeadsDivide(rules, absl::StrCat(path, ".heads"), delta.heads(), model.width());
  if (!delta.has_convolution_taps()) delta.set_convolution_taps(4);
  rules.InRange(absl::StrCat(path, ".convolution_taps"), delta.convolution_taps(), 0, 16);
  if (!delta.has_beta_range()) delta.set_beta_range(1);
  if (delta.beta_range() != 1 && delta.beta_range() != 2) {
    rules.Report(absl::StrCat(path, ".beta_range"),
                 absl::StrCat("must be 1 or 2, is ", delta.beta_range()));
  }
  if (!delta.has_output_gate()) delta.set_output_gate(false);
}

// 0 or above 1; the width of a head must be even where it is not 0.
void CheckRotary(Rules& rules, const std::string& path, double base, int32_t heads, int32_t width) {
  if (base == 0.0) return;
  if (!(base > 1.0) || !std::isfinite(base)) {
    rules.Report(absl::StrCat(path, ".rotary_base"),
                 absl::StrCat("must be 0 or greater than 1, is ", base));
  } else if (heads > 0 && width % heads == 0 && width / heads % 2 != 0) {
    rules.Report(
        absl::StrCat(path, ".heads"),
        absl::StrCat("model.width / heads must be even for rotary positions, is ", width / heads));
  }
}

void ResolveSoftmax(Rules& rules, const std::string& path, v1::SoftmaxSpec& softmax,
                    int32_t width) {
  HeadsDivide(rules, absl::StrCat(path, ".heads"), softmax.heads(), width);
  if (!softmax.has_kv_heads()) softmax.set_kv_heads(softmax.heads());
  if (softmax.heads() > 0 && rules.Positive(absl::StrCat(path, ".kv_heads"), softmax.kv_heads()) &&
      softmax.heads() % softmax.kv_heads() != 0) {
    rules.Report(
        absl::StrCat(path, ".kv_heads"),
        absl::StrCat("must divide heads (", softmax.heads(), "), is ", softmax.kv_heads()));
  }
  if (!softmax.has_window()) softmax.set_window(0);
  rules.InRange<int64_t>(absl::StrCat(path, ".window"), softmax.window(), 0, kMaxSequence);
  if (!softmax.has_rotary_base()) softmax.set_rotary_base(10000);
  CheckRotary(rules, path, softmax.rotary_base(), softmax.heads(), width);
}

bool IsRandom(v1::FeatureFunction features) {
  return features == v1::FEATURE_FUNCTION_EXPONENTIAL ||
         features == v1::FEATURE_FUNCTION_HYPERBOLIC;
}

void ResolvePerformer(Rules& rules, const std::string& path, v1::PerformerSpec& performer,
                      int32_t width) {
  HeadsDivide(rules, absl::StrCat(path, ".heads"), performer.heads(), width);
  if (!performer.has_rotary_base()) performer.set_rotary_base(10000);
  CheckRotary(rules, path, performer.rotary_base(), performer.heads(), width);
  if (performer.features() == v1::FEATURE_FUNCTION_UNSPECIFIED) {
    performer.set_features(v1::FEATURE_FUNCTION_EXPONENTIAL);
  }
  const bool random = IsRandom(performer.features());
  const std::string count = absl::StrCat(path, ".feature_count");
  if (!performer.has_feature_count()) performer.set_feature_count(random ? 256 : 0);
  if (rules.InRange(count, performer.feature_count(), random ? 1 : 0, 65536) &&
      performer.features() == v1::FEATURE_FUNCTION_HYPERBOLIC &&
      performer.feature_count() % 2 != 0) {
    rules.Report(count, absl::StrCat("must be even for hyperbolic features, is ",
                                     performer.feature_count()));
  }
  if (performer.rows() == v1::FEATURE_ROWS_UNSPECIFIED) {
    performer.set_rows(v1::FEATURE_ROWS_ORTHOGONAL);
  }
  if (!performer.has_feature_epsilon()) performer.set_feature_epsilon(random ? 1e-6 : 1e-3);
  rules.InRange(absl::StrCat(path, ".feature_epsilon"), performer.feature_epsilon(), 0.0, 1.0);
  if (!performer.has_denominator_epsilon()) performer.set_denominator_epsilon(random ? 1e-6 : 0);
  rules.InRange(absl::StrCat(path, ".denominator_epsilon"), performer.denominator_epsilon(), 0.0,
                1.0);
}

void ResolveSlim(Rules& rules, const std::string& path, v1::SlimSpec& slim, int32_t width) {
  HeadsDivide(rules, absl::StrCat(path, ".heads"), slim.heads(), width);
  if (!slim.has_rotary_base()) slim.set_rotary_base(0);
  CheckRotary(rules, path, slim.rotary_base(), slim.heads(), width);
  if (slim.features() == v1::FEATURE_FUNCTION_UNSPECIFIED) {
    slim.set_features(v1::FEATURE_FUNCTION_SQUARE);
  }
  if (slim.features() == v1::FEATURE_FUNCTION_HYPERBOLIC) {
    rules.Report(absl::StrCat(path, ".features"), "must not be hyperbolic");
  }
  if (!slim.has_feature_factor()) slim.set_feature_factor(1);
  if (rules.InRange(absl::StrCat(path, ".feature_factor"), slim.feature_factor(), 1, 256) &&
      slim.feature_factor() > 1 && !IsRandom(slim.features())) {
    rules.Report(absl::StrCat(path, ".feature_factor"),
                 "must be 1 for features that are not random");
  }
  if (!slim.has_denominator_epsilon()) slim.set_denominator_epsilon(1e-16);
  rules.InRange(absl::StrCat(path, ".denominator_epsilon"), slim.denominator_epsilon(), 0.0, 1.0);
}

bool IsMixed(v1::PolysketchSpec::Mode mode) {
  return mode == v1::PolysketchSpec::MODE_RANDOM_SKETCH_MIXED ||
         mode == v1::PolysketchSpec::MODE_LEARNED_SKETCH_MIXED;
}

bool IsRandom(v1::PolysketchSpec::Mode mode) {
  return mode == v1::PolysketchSpec::MODE_RANDOM_SKETCH ||
         mode == v1::PolysketchSpec::MODE_RANDOM_SKETCH_MIXED;
}

v1::PolysketchSpec::Norm DefaultNorm(v1::PolysketchSpec::Mode mode) {
  switch (mode) {
    case v1::PolysketchSpec::MODE_LEARNED_SKETCH:
      return v1::PolysketchSpec::NORM_NONE;
    case v1::PolysketchSpec::MODE_LEARNED_SKETCH_MIXED:
      return v1::PolysketchSpec::NORM_SEPARATE;
    default:
      return v1::PolysketchSpec::NORM_SHARED;
  }
}

constexpr bool IsPowerOfTwo(int32_t n) { return n > 0 && (n & (n - 1)) == 0; }

void CheckHadamard(Rules& rules, const std::string& path, const v1::PolysketchSpec& sketch,
                   int32_t width) {
  const std::string field = absl::StrCat(path, ".hadamard");
  if (!IsRandom(sketch.mode())) {
    rules.Report(field, "is for random sketches");
  } else if (sketch.heads() > 0 && width % sketch.heads() == 0 &&
             !IsPowerOfTwo(width / sketch.heads())) {
    rules.Report(field, absl::StrCat("needs a power of two for model.width / heads, is ",
                                     width / sketch.heads()));
  } else if (sketch.degree() > 4 && !IsPowerOfTwo(sketch.sketch_size())) {
    rules.Report(field, absl::StrCat("needs a power of two for sketch_size beyond degree 4, is ",
                                     sketch.sketch_size()));
  }
}

void ResolvePolysketch(Rules& rules, const std::string& path, v1::PolysketchSpec& sketch,
                       const v1::ModelSpec& model) {
  using Spec = v1::PolysketchSpec;
  const int32_t width = model.width();
  const bool divides = HeadsDivide(rules, absl::StrCat(path, ".heads"), sketch.heads(), width);
  if (!sketch.has_rotary_base()) sketch.set_rotary_base(10000);
  CheckRotary(rules, path, sketch.rotary_base(), sketch.heads(), width);
  if (sketch.mode() == Spec::MODE_UNSPECIFIED) {
    sketch.set_mode(IsCausal(model) ? Spec::MODE_LEARNED_SKETCH_MIXED : Spec::MODE_LEARNED_SKETCH);
  }
  if (IsMixed(sketch.mode()) && !IsCausal(model)) {
    rules.Report(absl::StrCat(path, ".mode"), "must not be mixed: that is for language models");
  }
  if (sketch.norm() == Spec::NORM_UNSPECIFIED) sketch.set_norm(DefaultNorm(sketch.mode()));
  if (sketch.mode() == Spec::MODE_LEARNED_SKETCH && sketch.norm() != Spec::NORM_NONE) {
    rules.Report(absl::StrCat(path, ".norm"),
                 "must be none for learned_sketch, whose network has its own");
  }
  if (!sketch.has_degree()) sketch.set_degree(4);
  const int32_t lowest = IsRandom(sketch.mode()) ? 4 : 2;
  if (sketch.degree() < lowest || sketch.degree() > 8 || !IsPowerOfTwo(sketch.degree())) {
    rules.Report(absl::StrCat(path, ".degree"),
                 absl::StrCat("must be ", lowest == 4 ? "4 or 8 for random sketches" : "2, 4 or 8",
                              ", is ", sketch.degree()));
  }
  if (!sketch.has_sketch_size()) sketch.set_sketch_size(32);
  rules.InRange(absl::StrCat(path, ".sketch_size"), sketch.sketch_size(), 1, 256);
  if (!sketch.has_block()) sketch.set_block(IsMixed(sketch.mode()) ? 256 : 128);
  rules.InRange<int64_t>(absl::StrCat(path, ".block"), sketch.block(), 1, kMaxSequence);
  if (sketch.sketch_scale() == Spec::SKETCH_SCALE_UNSPECIFIED) {
    sketch.set_sketch_scale(Spec::SKETCH_SCALE_UNBIASED);
  }
  if (!sketch.has_hadamard()) sketch.set_hadamard(false);
  if (sketch.hadamard()) CheckHadamard(rules, path, sketch, width);
  if (!sketch.has_c0()) sketch.set_c0(1);
  rules.InRange(absl::StrCat(path, ".c0"), sketch.c0(), 0.0, 1e30);
  if (!sketch.has_kappa()) {
    const bool computes = sketch.mode() == Spec::MODE_POLYNOMIAL || IsMixed(sketch.mode());
    sketch.set_kappa(computes && divides ? width / sketch.heads() : 1);
  }
  rules.Positive(absl::StrCat(path, ".kappa"), sketch.kappa());
}

void ResolveWindow(Rules& rules, const std::string& path, v1::ScatterbrainWindow& window) {
  rules.InRange<int64_t>(absl::StrCat(path, ".width"), window.width(), 1, kMaxSequence);
}

void ResolveHash(Rules& rules, const std::string& path, v1::ScatterbrainHash& hash) {
  if (!hash.has_rounds()) hash.set_rounds(2);
  rules.InRange(absl::StrCat(path, ".rounds"), hash.rounds(), 1, 64);
  rules.InRange(absl::StrCat(path, ".bucket"), hash.bucket(), 1, 65536);
}

void ResolveBlocks(Rules& rules, const std::string& path, v1::ScatterbrainBlocks& blocks) {
  if (!blocks.has_block()) blocks.set_block(32);
  if (!blocks.has_window()) blocks.set_window(3);
  if (!blocks.has_global()) blocks.set_global(0);
  if (!blocks.has_random()) blocks.set_random(0);
  if (!blocks.has_stride()) blocks.set_stride(0);
  if (!blocks.has_summary()) blocks.set_summary(blocks.stride() > 0 ? 1 : 0);
  rules.InRange(absl::StrCat(path, ".block"), blocks.block(), 1, 65536);
  if (rules.InRange(absl::StrCat(path, ".window"), blocks.window(), 0, 65536) &&
      blocks.window() > 0 && blocks.window() % 2 == 0) {
    rules.Report(absl::StrCat(path, ".window"),
                 absl::StrCat("must be odd, or 0, is ", blocks.window()));
  }
  rules.InRange(absl::StrCat(path, ".global"), blocks.global(), 0, 65536);
  rules.InRange(absl::StrCat(path, ".random"), blocks.random(), 0, 65536);
  if (rules.InRange(absl::StrCat(path, ".stride"), blocks.stride(), 0, 65536)) {
    rules.InRange(absl::StrCat(path, ".summary"), blocks.summary(), 0, blocks.stride());
  }
  if (blocks.window() == 0 && blocks.global() == 0 && blocks.random() == 0 &&
      blocks.stride() == 0) {
    rules.Report(path, "must have a window, global, random or stride that is not 0");
  }
}

void ResolveScatterbrain(Rules& rules, const std::string& path, v1::ScatterbrainSpec& spec,
                         int32_t width) {
  const bool divides = HeadsDivide(rules, absl::StrCat(path, ".heads"), spec.heads(), width);
  if (!spec.has_rotary_base()) spec.set_rotary_base(10000);
  CheckRotary(rules, path, spec.rotary_base(), spec.heads(), width);
  if (spec.features() == v1::FEATURE_FUNCTION_UNSPECIFIED) {
    spec.set_features(v1::FEATURE_FUNCTION_HYPERBOLIC);
  }
  if (!IsRandom(spec.features())) {
    rules.Report(absl::StrCat(path, ".features"), "must be exponential or hyperbolic");
  }
  const std::string count = absl::StrCat(path, ".feature_count");
  if (!spec.has_feature_count() && divides) {
    const double d = width / spec.heads();
    spec.set_feature_count(std::max(2, static_cast<int>(d * std::log(d)) / 2 * 2));
  }
  if ((spec.has_feature_count() || divides) &&
      rules.InRange(count, spec.feature_count(), 1, 65536) &&
      spec.features() == v1::FEATURE_FUNCTION_HYPERBOLIC && spec.feature_count() % 2 != 0) {
    rules.Report(count,
                 absl::StrCat("must be even for hyperbolic features, is ", spec.feature_count()));
  }
  if (spec.rows() == v1::FEATURE_ROWS_UNSPECIFIED) spec.set_rows(v1::FEATURE_ROWS_ORTHOGONAL);
  if (!spec.has_feature_epsilon()) spec.set_feature_epsilon(0);
  rules.InRange(absl::StrCat(path, ".feature_epsilon"), spec.feature_epsilon(), 0.0, 1.0);
  if (spec.dropped() == v1::ScatterbrainSpec::DROPPED_UNSPECIFIED) {
    spec.set_dropped(v1::ScatterbrainSpec::DROPPED_EXACT);
  }
  switch (spec.support_case()) {
    case v1::ScatterbrainSpec::kWindow:
      return ResolveWindow(rules, absl::StrCat(path, ".window"), *spec.mutable_window());
    case v1::ScatterbrainSpec::kHash:
      return ResolveHash(rules, absl::StrCat(path, ".hash"), *spec.mutable_hash());
    case v1::ScatterbrainSpec::kBlocks:
      return ResolveBlocks(rules, absl::StrCat(path, ".blocks"), *spec.mutable_blocks());
    case v1::ScatterbrainSpec::SUPPORT_NOT_SET:
      return rules.Report(path, "must name a support: one of blocks, hash, window");
  }
}

void ResolveSbm(Rules& rules, const std::string& path, v1::SbmSpec& sbm, int32_t width) {
  HeadsDivide(rules, absl::StrCat(path, ".heads"), sbm.heads(), width);
  if (!sbm.has_rotary_base()) sbm.set_rotary_base(10000);
  CheckRotary(rules, path, sbm.rotary_base(), sbm.heads(), width);
  if (!sbm.has_clusters()) sbm.set_clusters(128);
  rules.InRange(absl::StrCat(path, ".clusters"), sbm.clusters(), 1, 16384);
  if (sbm.sampler() == v1::SbmSpec::SAMPLER_UNSPECIFIED) {
    sbm.set_sampler(v1::SbmSpec::SAMPLER_POISSON);
  }
  if (!sbm.has_exploration()) sbm.set_exploration(0.01);
  rules.InRange(absl::StrCat(path, ".exploration"), sbm.exploration(), 0.0, 0.5);
  if (sbm.straight_through() == v1::SbmSpec::STRAIGHT_THROUGH_UNSPECIFIED) {
    sbm.set_straight_through(v1::SbmSpec::STRAIGHT_THROUGH_MASK);
  }
  if (!sbm.has_clip()) sbm.set_clip(1);
  rules.InRange(absl::StrCat(path, ".clip"), sbm.clip(), 0.0, 1e30);
  if (!sbm.has_density_weight()) sbm.set_density_weight(1e-4);
  rules.InRange(absl::StrCat(path, ".density_weight"), sbm.density_weight(), 0.0, 1e6);
}

}  // namespace

void ResolveMixer(Rules& rules, const std::string& path, v1::MixerSpec& mixer,
                  const v1::ModelSpec& model) {
  switch (mixer.kind_case()) {
    case v1::MixerSpec::kDelta:
      return ResolveDelta(rules, absl::StrCat(path, ".delta"), *mixer.mutable_delta(), model);
    case v1::MixerSpec::kSoftmax:
      return ResolveSoftmax(rules, absl::StrCat(path, ".softmax"), *mixer.mutable_softmax(),
                            model.width());
    case v1::MixerSpec::kPerformer:
      return ResolvePerformer(rules, absl::StrCat(path, ".performer"), *mixer.mutable_performer(),
                              model.width());
    case v1::MixerSpec::kPolysketch:
      return ResolvePolysketch(rules, absl::StrCat(path, ".polysketch"),
                               *mixer.mutable_polysketch(), model);
    case v1::MixerSpec::kScatterbrain:
      return ResolveScatterbrain(rules, absl::StrCat(path, ".scatterbrain"),
                                 *mixer.mutable_scatterbrain(), model.width());
    case v1::MixerSpec::kSbm:
      return ResolveSbm(rules, absl::StrCat(path, ".sbm"), *mixer.mutable_sbm(), model.width());
    case v1::MixerSpec::kSlim:
      return ResolveSlim(rules, absl::StrCat(path, ".slim"), *mixer.mutable_slim(), model.width());
    case v1::MixerSpec::KIND_NOT_SET:
      return rules.Report(path,
                          "must name a mechanism: one of delta, performer, polysketch, sbm, "
                          "scatterbrain, slim, softmax");
  }
}

}  // namespace weft::spec
