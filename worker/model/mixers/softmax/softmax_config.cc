#include "worker/model/mixers/softmax/softmax_config.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weft::worker {

HeadOptions HeadsOf(const SoftmaxMixerConfig& mixer) {
  return {.heads = mixer.heads,
          .kv_heads = mixer.kv_heads,
          .head_width = mixer.head_width,
          .rotary_base = mixer.rotary_base,
          .scores_meet_in_softmax = true};
}

void Check(const SoftmaxMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems) {
  CheckHeads(HeadsOf(mixer), place, layer, problems);
  problems.Require(mixer.kv_heads >= 1,
                   absl::StrCat(layer, ".kv_heads is ", mixer.kv_heads, " and must be positive"));
  problems.Require(mixer.window >= 0, absl::StrCat(layer, ".window is ", mixer.window,
                                                   " and must be 0 (all) or positive"));
}

std::string Canonical(const SoftmaxMixerConfig& mixer) {
  // Doubles as hexadecimal: exact.
  return absl::StrFormat("softmax heads=%d kv_heads=%d head_width=%d window=%d base=%a",
                         mixer.heads, mixer.kv_heads, mixer.head_width, mixer.window,
                         mixer.rotary_base);
}

}  // namespace weft::worker
