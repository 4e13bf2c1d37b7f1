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

// GELU in its tanh form.
__device__ inline float Gelu(float a) {
  const float t = QuickTanh(a * (kGeluFactor + kGeluCubic * a * a));
  const float half = 0.5F * a;
  return half + half * t;
}
// And its derivative.
__device__ inline float GeluWithSlope(float a, float& slope) {
  const float square = a * a;
  const float t = QuickTanh(a * (kGeluFactor + kGeluCubic * square));
  const float half = 0.5F * a;
  const float inner = half * (kGeluFactor + 3.0F * kGeluCubic * square);
  slope = (0.5F + 0.5F * t) + inner * (1.0F - t * t);
  return half + half * t;
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
