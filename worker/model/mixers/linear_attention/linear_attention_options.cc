#include "worker/model/mixers/linear_attention/linear_attention_options.h"

namespace weft::worker {

absl::string_view NameOf(FeatureFunction function) {
  switch (function) {
    case FeatureFunction::kSquare:
      return "square";
    case FeatureFunction::kRelu:
      return "relu";
    case FeatureFunction::kElu1:
      return "elu1";
    case FeatureFunction::kMagnitude:
      return "magnitude";
    case FeatureFunction::kExponential:
      return "exponential";
    case FeatureFunction::kHyperbolic:
      return "hyperbolic";
  }
  return "?";
}

kernels::Feature KernelOf(FeatureFunction function) {
  switch (function) {
    case FeatureFunction::kSquare:
      return kernels::Feature::kSquare;
    case FeatureFunction::kRelu:
      return kernels::Feature::kRelu;
    case FeatureFunction::kElu1:
      return kernels::Feature::kElu1;
    case FeatureFunction::kMagnitude:
      return kernels::Feature::kMagnitude;
    case FeatureFunction::kExponential:
    case FeatureFunction::kHyperbolic:
      break;
  }
  return kernels::Feature::kExponential;
}

}  // namespace weft::worker
