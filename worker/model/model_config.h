// What a language model looks like: plain values, checked by Validate(). The layers are a list of
// mixers, so every hybrid (alternating windows, a few global layers) is just another list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/model/mixers/mixer_config.h"

namespace weft::worker {

// Which linear maps have a bias.
struct BiasConfig {
  bool projections = false;  // of the mixers' inputs: queries, keys, values
  bool output = false;       // of the mixers' output projections
};

// Shares of values that are dropped in training; 0: none.
struct DropoutConfig {
  double attention = 0.0;  // of attention weights
};

struct ModelConfig {
  int64_t vocabulary = 256;
  int64_t width = 256;   // d; every mixer's heads divide it
  int64_t hidden = 768;  // of the SwiGLU
  double norm_epsilon = 1e-6;
  std::vector<MixerConfig> layers = {};  // first layer first
  BiasConfig biases = {};
  bool output_projection = true;  // of the mixers; without it their merged heads are the output
  DropoutConfig dropout = {};
};

// The customary SwiGLU width for a model width: 8/3 of it, rounded up to a multiple of 256.
int64_t DefaultHidden(int64_t width);

// kInvalidArgument that lists every problem, separated by "; ".
absl::Status Validate(const ModelConfig& config);

// What the layer's mixer is told of the model.
MixerPlace PlaceOf(const ModelConfig& config, size_t layer);

// Everything that decides what the model computes, one line a part, exactly.
std::string Canonical(const ModelConfig& config);

}  // namespace weft::worker
