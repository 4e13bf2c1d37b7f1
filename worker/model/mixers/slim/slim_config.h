// Options of the `slim` mixer.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "worker/model/mixers/linear_attention/linear_attention_options.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/problems.h"

namespace weft::worker {

// The attention of SLiM Performers: Likhosherstov et al. 2021, "Sub-linear memory: how to make
// performers SLiM". Their models have biases on the projections and no output projection, which
// the model says (MixerPlace).
struct SlimMixerConfig {
  static constexpr absl::string_view kName = "slim";

  int64_t heads = 1;         // divides the model's width
  double rotary_base = 0.0;  // 0: no rotary positions
  FeatureFunction features = FeatureFunction::kSquare;
  // Random features: as many for each component of a head, of orthogonal rows of one length.
  int64_t feature_factor = 1;
  double denominator_epsilon = 1e-16;  // added to every sum of weights
};

LinearAttentionOptions OptionsOf(const SlimMixerConfig& mixer, const MixerPlace& place);
void Check(const SlimMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems);
std::string Canonical(const SlimMixerConfig& mixer);

}  // namespace weft::worker
