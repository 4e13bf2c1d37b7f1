// The GELU in its tanh form and its slope as good as a bf16 result needs, by two of the GPU's own
// functions: GELU(x) = x s(x), where s(x) = 1 / (1 + e^(-2u)) and u = sqrt(2 / pi) (x + 0.044715
// x^3). For op code only.
#pragma once

#include "kernels/device/cuda/quick_math.cuh"

namespace weft::kernels {

inline constexpr float kGeluU = 2 * 0.79788456F;
inline constexpr float kGeluCube = 0.044715F;

// s(x), of x and its square.
__device__ inline float QuickGeluShare(float x, float x2) {
  return QuickInverse(1.0F +
                      QuickExp2(x * fmaf(x2, -kLog2E * kGeluU * kGeluCube, -kLog2E * kGeluU)));
}
__device__ inline float QuickGelu(float x) { return x * QuickGeluShare(x, x * x); }
__device__ inline float QuickGeluSlope(float x) {
  const float x2 = x * x;
  const float s = QuickGeluShare(x, x2);
  return fmaf(x * fmaf(-s, s, s), fmaf(x2, 3 * kGeluU * kGeluCube, kGeluU), s);
}

}  // namespace weft::kernels
