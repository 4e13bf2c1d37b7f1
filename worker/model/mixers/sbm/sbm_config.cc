#include "worker/model/mixers/sbm/sbm_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weft::worker {

HeadOptions HeadsOf(const SbmMixerConfig& mixer) {
  return {.heads = mixer.heads, .rotary_base = mixer.rotary_base};
}

void Check(const SbmMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems) {
  CheckHeads(HeadsOf(mixer), place, layer, problems);
  problems.Require(mixer.clusters >= 1 && mixer.clusters <= kernels::kMaxSbmClusters,
                   absl::StrCat(layer, ".clusters is ", mixer.clusters, " and must be 1 to ",
                                kernels::kMaxSbmClusters));
  problems.Require(
      mixer.exploration >= 0.0 && mixer.exploration <= 0.5,
      absl::StrCat(layer, ".exploration is ", mixer.exploration, " and must be 0 to 0.5"));
  problems.Require(mixer.clip > 0.0,
                   absl::StrCat(layer, ".clip is ", mixer.clip, " and must be positive"));
  problems.Require(
      mixer.density_weight >= 0.0 && std::isfinite(mixer.density_weight),
      absl::StrCat(layer, ".density_weight is ", mixer.density_weight, " and must be 0 or more"));
}

std::string Canonical(const SbmMixerConfig& mixer) {
  // Doubles as hexadecimal: exact.
  return absl::StrFormat(
      "sbm heads=%d base=%a clusters=%d sampler=%d exploration=%a estimate=%d clip=%a density=%a",
      mixer.heads, mixer.rotary_base, mixer.clusters, mixer.sampler, mixer.exploration,
      mixer.straight_through, mixer.clip, mixer.density_weight);
}

}  // namespace weft::worker
