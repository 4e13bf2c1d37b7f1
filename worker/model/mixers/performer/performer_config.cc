#include "worker/model/mixers/performer/performer_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weft::worker {

LinearAttentionOptions OptionsOf(const PerformerMixerConfig& mixer, const MixerPlace& place) {
  const bool random = IsRandom(mixer.features);
  const bool both_signs = mixer.features == FeatureFunction::kHyperbolic;
  const int64_t head_width = place.width / mixer.heads;
  LinearAttentionOptions options{
      .heads = {.heads = mixer.heads, .rotary_base = mixer.rotary_base},
      .features = {.feature = KernelOf(mixer.features),
                   .rows = both_signs ? mixer.feature_count / 2 : mixer.feature_count,
                   .both_signs = both_signs,
                   // Splits the 1/sqrt(D) of the softmax kernel between query and key.
                   .scale = random ? std::pow(static_cast<double>(head_width), -0.25) : 1.0,
                   .floor = mixer.feature_epsilon},
      .rows = mixer.rows,
      .guard = kernels::DenominatorGuard::kLiftSmall};
  // The kernel's sums are those of the mixer times the number of features.
  options.guard_epsilon =
      mixer.denominator_epsilon * static_cast<double>(FeatureCount(options.features, head_width));
  return options;
}

void Check(const PerformerMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems) {
  CheckHeads({.heads = mixer.heads, .rotary_base = mixer.rotary_base}, place, layer, problems);
  CheckNoAttentionDropout(place, PerformerMixerConfig::kName, layer, problems);
  problems.Require(mixer.feature_count >= (IsRandom(mixer.features) ? 1 : 0),
                   absl::StrCat(layer, ".feature_count is ", mixer.feature_count,
                                " and must be positive (or 0 for features that are not random)"));
  problems.Require(mixer.features != FeatureFunction::kHyperbolic || mixer.feature_count % 2 == 0,
                   absl::StrCat(layer, ".feature_count is ", mixer.feature_count,
                                " and must be even for hyperbolic features"));
  problems.Require(
      mixer.feature_epsilon >= 0.0 && std::isfinite(mixer.feature_epsilon),
      absl::StrCat(layer, ".feature_epsilon is ", mixer.feature_epsilon, " and must be 0 or more"));
  problems.Require(mixer.denominator_epsilon >= 0.0 && std::isfinite(mixer.denominator_epsilon),
                   absl::StrCat(layer, ".denominator_epsilon is ", mixer.denominator_epsilon,
                                " and must be 0 or more"));
}

std::string Canonical(const PerformerMixerConfig& mixer) {
  // Doubles as hexadecimal: exact.
  return absl::StrFormat("performer heads=%d base=%a features=%s count=%d rows=%d eps=%a guard=%a",
                         mixer.heads, mixer.rotary_base, NameOf(mixer.features),
                         mixer.feature_count, static_cast<int>(mixer.rows), mixer.feature_epsilon,
                         mixer.denominator_epsilon);
}

}  // namespace weft::worker
