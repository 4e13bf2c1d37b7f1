// Options of the `softmax` mixer.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/problems.h"

namespace weft::worker {

// Softmax attention, with rotary positions unless the model has others.
struct SoftmaxMixerConfig {
  static constexpr absl::string_view kName = "softmax";

  int64_t heads = 1;             // divides the model's width
  int64_t kv_heads = 1;          // divides heads
  int64_t window = 0;            // tokens each token sees, itself included; 0 sees all
  double rotary_base = 10000.0;  // 0: no rotary positions
  int64_t head_width = 0;        // 0: the model's width / heads
};

HeadOptions HeadsOf(const SoftmaxMixerConfig& mixer);

void Check(const SoftmaxMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems);
std::string Canonical(const SoftmaxMixerConfig& mixer);

}  // namespace weft::worker
