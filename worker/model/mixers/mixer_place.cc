#include "worker/model/mixers/mixer_place.h"

#include "absl/strings/str_cat.h"

namespace weft::worker {

void CheckHeads(int64_t heads, int64_t width, absl::string_view layer, Problems& problems) {
  problems.Require(heads >= 1 && width % heads == 0,
                   absl::StrCat(layer, ".heads is ", heads, " and must divide the width ", width));
}

void CheckNoAttentionDropout(const MixerPlace& place, absl::string_view mechanism,
                             absl::string_view layer, Problems& problems) {
  problems.Require(place.attention_dropout == 0.0,
                   absl::StrCat(layer, ": ", mechanism,
                                " has no attention weights to drop; attention dropout is ",
                                place.attention_dropout, " and must be 0"));
}

}  // namespace weft::worker
