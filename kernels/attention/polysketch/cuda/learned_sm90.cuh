// What the kernels of learned sketches on Hopper share.
#pragma once

#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/polysketch/cuda/learned_passes_sm90.h"
#include "kernels/device/cuda/reduce.cuh"

namespace weft::kernels::sm90 {

// Off by at most 2^-11 of the result.
__device__ inline float QuickTanh(float x) {
  asm("tanh.approx.f32 %0, %0;" : "+f"(x));
  return x;
}

inline constexpr float kGeluFactor = 0.79788456F;
inline constexpr float kGeluCubic = 0.79788456F * 0.044715F;

// Twice GELU in its tanh form: the half is in the weights of contract.
__device__ inline float TwiceGelu(float a) {
  const float t = QuickTanh(a * fmaf(a * a, kGeluCubic, kGeluFactor));
  return fmaf(a, t, a);
}
// And its derivative, less 1.
__device__ inline float TwiceGeluWithSlope(float a, float& slope_less_1) {
  const float square = a * a;
  const float t = QuickTanh(a * fmaf(square, kGeluCubic, kGeluFactor));
  const float inner = a * fmaf(square, 3.0F * kGeluCubic, kGeluFactor);
  slope_less_1 = fmaf(inner, fmaf(-t, t, 1.0F), t);
  return fmaf(a, t, a);
}

// Over the four lanes that share rows of accumulators.
__device__ inline float RowQuadSum(float x) { return GroupReduce<4>(x, AddOf()); }

// Calls launch.operator()<inputs, sketch>() for the widths that a stage can have.
template <typename Launch>
cudaError_t LaunchOfStage(int inputs, int sketch, const Launch& launch) {
  if (sketch == 32) {
    return inputs == 128  ? launch.template operator()<128, 32>()
           : inputs == 64 ? launch.template operator()<64, 32>()
                          : launch.template operator()<32, 32>();
  }
  return inputs == 128 ? launch.template operator()<128, 64>()
                       : launch.template operator()<64, 64>();
}

}  // namespace weft::kernels::sm90
