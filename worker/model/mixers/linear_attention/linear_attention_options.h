// What the mixers `performer` and `slim` have in common: linear attention over a feature map.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"
#include "kernels/attention/linear_attention/linear_attention.h"
#include "kernels/random/feature_matrix.h"
#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/mixer_place.h"
#include "worker/model/problems.h"

namespace weft::worker {

// The functions that a mixer may take for its features.
enum class FeatureFunction : uint8_t {
  kSquare,
  kRelu,
  kElu1,         // x + 1 above zero, exp(x) elsewhere
  kMagnitude,    // |x|
  kExponential,  // positive random features of the softmax kernel
  kHyperbolic,   // the same for random rows of both signs
};

absl::string_view NameOf(FeatureFunction function);
kernels::Feature KernelOf(FeatureFunction function);
// Whether the features are random: of rows that are drawn, kept and saved with the weights.
constexpr bool IsRandom(FeatureFunction function) {
  return function == FeatureFunction::kExponential || function == FeatureFunction::kHyperbolic;
}

struct LinearAttentionOptions {
  HeadOptions heads = {};
  kernels::FeatureMap features = {};
  kernels::FeatureRows rows = kernels::FeatureRows::kOrthogonal;  // how those of the map are drawn
  kernels::DenominatorGuard guard = kernels::DenominatorGuard::kAdd;
  double guard_epsilon = 0.0;
};

}  // namespace weft::worker
