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

// Of the rows of an operand in registers, [64, kInputs]: mean 0, variance 1.
template <int kInputs>
__device__ inline void NormaliseRows(uint32_t (&x)[kInputs / 16][4], float epsilon) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = 0;
#pragma unroll
    for (int k = 0; k < kInputs / 8; ++k) {
      const uint32_t pair = x[k / 2][i + 2 * (k % 2)];
      sum += hopper::LowOf(pair) + hopper::HighOf(pair);
    }
    const float mean = RowQuadSum(sum) * (1.0F / kInputs);
    float squares = 0;
#pragma unroll
    for (int k = 0; k < kInputs / 8; ++k) {
      const uint32_t pair = x[k / 2][i + 2 * (k % 2)];
      const float low = hopper::LowOf(pair) - mean;
      const float high = hopper::HighOf(pair) - mean;
      squares += low * low + high * high;
    }
    const float rstd = rsqrtf(RowQuadSum(squares) * (1.0F / kInputs) + epsilon);
#pragma unroll
    for (int k = 0; k < kInputs / 8; ++k) {
      uint32_t& pair = x[k / 2][i + 2 * (k % 2)];
      pair = hopper::PackPair((hopper::LowOf(pair) - mean) * rstd,
                              (hopper::HighOf(pair) - mean) * rstd);
    }
  }
}

}  // namespace weft::kernels::sm90
