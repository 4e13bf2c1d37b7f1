// What a mixer is told of the model that it stands in.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
#include "worker/model/problems.h"

namespace weft::worker {

struct MixerPlace {
  int64_t width = 0;           // C of the model
  double norm_epsilon = 1e-6;  // of norms inside the mixer
  bool causal = true;          // a token sees nothing that comes after it
  int64_t layer = 0;           // 0-based; part of every random draw of the layer
  int64_t layers = 1;          // of the model
};

// The rule of every mechanism: heads of one width that fill the model's.
void CheckHeads(int64_t heads, int64_t width, absl::string_view layer, Problems& problems);

}  // namespace weft::worker
