// What a mixer is told of the model that it stands in: options that every mechanism follows in the
// same way, so that one model differs from another by its mechanism alone.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
#include "worker/model/problems.h"

namespace weft::worker {

struct MixerPlace {
  int64_t width = 0;           // C of the model
  double norm_epsilon = 1e-6;  // of norms inside the mixer
  bool causal = true;          // a token sees nothing that comes after it
  // Some tokens may be padding: Pass::valid is there. A mechanism that cannot leave them out says
  // so in its Check.
  bool padded = false;
  int64_t layer = 0;   // 0-based; part of every random draw of the layer
  int64_t layers = 1;  // of the model

  // Of the projections to queries, keys and values, and of what else a mechanism projects its input
  // to.
  bool projection_bias = false;
  // The merged heads are projected to the model's width; without it they are the output.
  bool output_projection = true;
  bool output_bias = false;  // of that projection
  // Share of the attention weights that are dropped in training, 0 for none. A mechanism that has
  // no such weights says so in its Check.
  double attention_dropout = 0.0;
};

// The rule of mechanisms whose heads fill the model's width.
void CheckHeads(int64_t heads, int64_t width, absl::string_view layer, Problems& problems);

// For mechanisms without weights to drop, such as those that sum features.
void CheckNoAttentionDropout(const MixerPlace& place, absl::string_view mechanism,
                             absl::string_view layer, Problems& problems);

}  // namespace weft::worker
