#include "worker/model/mixers/softmax/softmax_config.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weft::worker {

void Check(const SoftmaxMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems) {
  CheckHeads(mixer.heads, place.width, layer, problems);
  const bool heads_divide = mixer.heads >= 1 && place.width % mixer.heads == 0;
  problems.Require(!heads_divide || (place.width / mixer.heads) % 2 == 0,
                   absl::StrCat(layer, ": the head width ", place.width, "/", mixer.heads,
                                " must be even for rotary positions"));
  problems.Require(mixer.kv_heads >= 1 && mixer.heads >= 1 && mixer.heads % mixer.kv_heads == 0,
                   absl::StrCat(layer, ".kv_heads is ", mixer.kv_heads,
                                " and must divide the heads ", mixer.heads));
  problems.Require(mixer.window >= 0, absl::StrCat(layer, ".window is ", mixer.window,
                                                   " and must be 0 (all) or positive"));
  problems.Require(
      mixer.rotary_base > 1.0,
      absl::StrCat(layer, ".rotary_base is ", mixer.rotary_base, " and must be above 1"));
}

std::string Canonical(const SoftmaxMixerConfig& mixer) {
  // Doubles as hexadecimal: exact.
  return absl::StrFormat("softmax heads=%d kv_heads=%d window=%d base=%a", mixer.heads,
                         mixer.kv_heads, mixer.window, mixer.rotary_base);
}

}  // namespace weft::worker
