// The formulas of activations, of numbers in registers. For op code only.
//
// T is the type that the result will be rounded to (quick_math.cuh): with the library's exponential
// and division these ops would wait for arithmetic instead of memory.
#pragma once

#include "kernels/device/cuda/quick_math.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels {

template <typename T>
__device__ inline float SigmoidOf(float x) {
  return InverseOf<T>(1.0F + ExpOf<T>(-x));
}
template <typename T>
__device__ inline float SiluOf(float x) {
  return x * SigmoidOf<T>(x);
}
template <typename T>
__device__ inline float SiluSlope(float x) {
  const float s = SigmoidOf<T>(x);
  return s * (1.0F + x * (1.0F - s));
}

struct NormalAt {
  float below;    // Phi(x), the distribution
  float density;  // its derivative
};

// For bf16 by Abramowitz and Stegun, "Handbook of mathematical functions", 7.1.26: 1.5e-7 off at
// most.
template <typename T>
__device__ inline NormalAt NormalOf(float x) {
  const float bell = ExpOf<T>(-0.5F * x * x);
  const float density = 0.39894228F * bell;
  if constexpr (!kIsQuick<T>) {
    return {0.5F * erfcf(-0.70710678F * x), density};
  } else {
    const float t = InverseOf<T>(1.0F + 0.3275911F * 0.70710678F * fabsf(x));
    const float series =
        t * (0.254829592F +
             t * (-0.284496736F + t * (1.421413741F + t * (-1.453152027F + t * 1.061405429F))));
    const float tail = 0.5F * series * bell;  // above |x|
    return {x < 0 ? tail : 1.0F - tail, density};
  }
}

// GELU and its derivative, exact or by its tanh form (gelu.h).
template <bool kExact, typename T>
__device__ inline float GeluOf(float x) {
  if constexpr (kExact) {
    return x * NormalOf<T>(x).below;
  } else {
    return 0.5F * x * (1.0F + tanhf(0.79788456F * (x + 0.044715F * x * x * x)));
  }
}
template <bool kExact, typename T>
__device__ inline float GeluSlope(float x) {
  if constexpr (kExact) {
    const NormalAt normal = NormalOf<T>(x);
    return normal.below + x * normal.density;
  } else {
    const float t = tanhf(0.79788456F * (x + 0.044715F * x * x * x));
    const float d_t = (1.0F - t * t) * (0.79788456F * (1.0F + 3.0F * 0.044715F * x * x));
    return 0.5F * (1.0F + t) + 0.5F * x * d_t;
  }
}

}  // namespace weft::kernels
