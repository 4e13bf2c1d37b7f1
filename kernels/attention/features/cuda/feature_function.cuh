// Feature functions of one number on a GPU. Private to kernels/attention.
#pragma once

#include "kernels/attention/features/cuda/features_cuda.h"

namespace weft::kernels {

// f(a) without the floor; of exponential features, exp(a).
__device__ inline float FeatureValue(CudaFeature feature, float a) {
  switch (feature) {
    case CudaFeature::kSquare:
      return a * a;
    case CudaFeature::kRelu:
      return fmaxf(a, 0.0F);
    case CudaFeature::kElu1:
      return a > 0.0F ? a + 1.0F : expf(a);
    case CudaFeature::kMagnitude:
      return fabsf(a);
    case CudaFeature::kExponential:
      break;
  }
  return expf(a);
}

// df/da.
__device__ inline float FeatureSlope(CudaFeature feature, float a) {
  switch (feature) {
    case CudaFeature::kSquare:
      return 2.0F * a;
    case CudaFeature::kRelu:
      return a > 0.0F ? 1.0F : 0.0F;
    case CudaFeature::kElu1:
      return a > 0.0F ? 1.0F : expf(a);
    case CudaFeature::kMagnitude:
      return a > 0.0F ? 1.0F : (a < 0.0F ? -1.0F : 0.0F);
    case CudaFeature::kExponential:
      break;
  }
  return expf(a);
}

}  // namespace weft::kernels
