// Options of the `performer` mixer.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "worker/model/mixers/linear_attention/linear_attention_options.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/problems.h"

namespace weft::worker {

// Attention by random features of the softmax kernel, or by generalised kernel features:
// Choromanski et al. 2021, "Rethinking attention with performers", sections 2.2 to 2.4. Features
// depend on their own token, and the random rows on the job's seed alone: nothing that comes later
// shows in a causal model.
struct PerformerMixerConfig {
  static constexpr absl::string_view kName = "performer";

  int64_t heads = 1;             // divides the model's width
  double rotary_base = 10000.0;  // 0: no rotary positions
  FeatureFunction features = FeatureFunction::kExponential;
  // Of a head, even for hyperbolic features. 0, for those that are not random: one for each
  // component of a head, without random rows.
  int64_t feature_count = 256;
  kernels::FeatureRows rows = kernels::FeatureRows::kOrthogonal;
  double feature_epsilon = 1e-6;  // added to every feature
  // Sums of weights, as means over the features, of at most this size are lifted by twice as much.
  double denominator_epsilon = 1e-6;
};

LinearAttentionOptions OptionsOf(const PerformerMixerConfig& mixer, const MixerPlace& place);
void Check(const PerformerMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems);
std::string Canonical(const PerformerMixerConfig& mixer);

}  // namespace weft::worker
