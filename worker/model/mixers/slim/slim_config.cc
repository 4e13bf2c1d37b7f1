#include "worker/model/mixers/slim/slim_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weft::worker {

LinearAttentionOptions OptionsOf(const SlimMixerConfig& mixer, const MixerPlace& place) {
  const bool random = IsRandom(mixer.features);
  const int64_t head_width = place.width / mixer.heads;
  return {.heads = {.heads = mixer.heads, .rotary_base = mixer.rotary_base},
          .features = {.feature = KernelOf(mixer.features),
                       .rows = random ? mixer.feature_factor * head_width : 0,
                       // Splits the 1/sqrt(D) of the softmax kernel between query and key.
                       .scale = random ? std::pow(static_cast<double>(head_width), -0.25) : 1.0},
          .rows = kernels::FeatureRows::kOrthogonalEqualLengths,
          .guard = kernels::DenominatorGuard::kAdd,
          .guard_epsilon = mixer.denominator_epsilon};
}

void Check(const SlimMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems) {
  CheckHeads({.heads = mixer.heads, .rotary_base = mixer.rotary_base}, place, layer, problems);
  CheckNoAttentionDropout(place, SlimMixerConfig::kName, layer, problems);
  problems.Require(mixer.features != FeatureFunction::kHyperbolic,
                   absl::StrCat(layer, ".features is hyperbolic, which slim does not have"));
  problems.Require(
      mixer.feature_factor >= 1 && (mixer.feature_factor == 1 || IsRandom(mixer.features)),
      absl::StrCat(layer, ".feature_factor is ", mixer.feature_factor,
                   " and must be positive, and 1 unless features are random"));
  problems.Require(mixer.denominator_epsilon >= 0.0 && std::isfinite(mixer.denominator_epsilon),
                   absl::StrCat(layer, ".denominator_epsilon is ", mixer.denominator_epsilon,
                                " and must be 0 or more"));
}

std::string Canonical(const SlimMixerConfig& mixer) {
  // Doubles as hexadecimal: exact.
  return absl::StrFormat("slim heads=%d base=%a features=%s factor=%d guard=%a", mixer.heads,
                         mixer.rotary_base, NameOf(mixer.features), mixer.feature_factor,
                         mixer.denominator_epsilon);
}

}  // namespace weft::worker
