// What a language model looks like: plain values, checked by Validate(). The layers are a list of
// mixers, so every hybrid (alternating windows, a few global layers) is just another list.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weft::worker {

// The delta rule: a fixed-size state per head that every token corrects towards its own value.
struct DeltaMixerConfig {
  int64_t heads = 1;
  // Causal depthwise convolution of this many taps on q, k and v, followed by SiLU; 0 leaves SiLU
  // alone.
  int64_t convolution_taps = 4;
  // beta in (0, 2) instead of (0, 1): lets the state transition reflect.
  bool negative_eigenvalues = false;
  // Multiplies the normalised output by SiLU of one more projection.
  bool output_gate = false;
};

// Causal softmax attention with rotary positions.
struct SoftmaxMixerConfig {
  int64_t heads = 1;
  int64_t kv_heads = 1;  // divides heads
  int64_t window = 0;    // tokens each token sees, itself included; 0 sees all
  double rotary_base = 10000.0;
};

using MixerConfig = std::variant<DeltaMixerConfig, SoftmaxMixerConfig>;

// The mechanism's name in specs, metrics and reports: "delta" or "softmax".
absl::string_view NameOf(const MixerConfig& mixer);

struct ModelConfig {
  int64_t vocabulary = 256;
  int64_t width = 256;   // d; every mixer's heads divide it
  int64_t hidden = 768;  // of the SwiGLU
  double norm_epsilon = 1e-6;
  std::vector<MixerConfig> layers = {};  // first layer first
};

// The customary SwiGLU width for a model width: 8/3 of it, rounded up to a multiple of 256.
int64_t DefaultHidden(int64_t width);

// kInvalidArgument that lists every problem, separated by "; ".
absl::Status Validate(const ModelConfig& config);

}  // namespace weft::worker
