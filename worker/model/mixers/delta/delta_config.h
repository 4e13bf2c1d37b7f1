// Options of the `delta` mixer.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/problems.h"

namespace weft::worker {

// The delta rule: a fixed-size state per head that every token corrects towards its own value.
struct DeltaMixerConfig {
  static constexpr absl::string_view kName = "delta";

  int64_t heads = 1;  // divides the model's width
  // Causal depthwise convolution of this many taps on q, k and v, followed by SiLU; 0 leaves SiLU
  // alone.
  int64_t convolution_taps = 4;
  // beta in (0, 2) instead of (0, 1): lets the state transition reflect.
  bool negative_eigenvalues = false;
  // Multiplies the normalised output by SiLU of one more projection.
  bool output_gate = false;
};

void Check(const DeltaMixerConfig& mixer, const MixerPlace& place, absl::string_view layer,
           Problems& problems);
std::string Canonical(const DeltaMixerConfig& mixer);

}  // namespace weft::worker
