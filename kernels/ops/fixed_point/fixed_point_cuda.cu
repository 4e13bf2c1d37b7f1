#include <algorithm>
#include <cmath>

#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/fixed_point/fixed_point_cuda.h"

namespace weft::kernels::internal {
namespace {

// One block of threads for each fixed-point block; each thread has four neighbouring elements.
constexpr int kThreads = 256;
constexpr int64_t kBlock = 1024;  // kFixedPointBlock
constexpr int32_t kNonFinite = INT32_MAX;
constexpr int32_t kZero = INT32_MIN;
constexpr uint32_t kInfinityBits = 0x7F800000;  // of |x|; NaNs are above

__device__ float PowerOfTwo(int exponent) { return ldexpf(1.0F, exponent); }

template <typename T>
__device__ void Read(const T* from, int64_t i, int64_t n, bool aligned, T (&values)[4]) {
  if (aligned && i + 4 <= n) {
    *reinterpret_cast<uint4*>(values) = *reinterpret_cast<const uint4*>(from + i);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) values[j] = i + j < n ? from[i + j] : T{0};
}
template <typename T>
__device__ void Write(T* to, int64_t i, int64_t n, bool aligned, const T (&values)[4]) {
  if (aligned && i + 4 <= n) {
    *reinterpret_cast<uint4*>(to + i) = *reinterpret_cast<const uint4*>(values);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (i + j < n) to[i + j] = values[j];
  }
}

__global__ void __launch_bounds__(kThreads)
    ExponentsKernel(int64_t n, bool aligned, bool accumulate, const float* x, int32_t* exponents) {
  __shared__ uint32_t shared[32];
  alignas(16) float values[4];
  Read(x, int64_t{blockIdx.x} * kBlock + 4 * threadIdx.x, n, aligned, values);
  uint32_t largest = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) largest = max(largest, __float_as_uint(values[j]) & 0x7FFFFFFFU);
  largest = BlockReduce<kThreads>(largest, MaxOf(), shared);
  if (threadIdx.x != 0) return;
  int32_t exponent = kZero;
  if (largest >= kInfinityBits) {
    exponent = kNonFinite;
  } else if (largest != 0) {
    exponent = ilogbf(__uint_as_float(largest));  // right for denormals too
  }
  int32_t& out = exponents[blockIdx.x];
  out = accumulate ? max(out, exponent) : exponent;
}

__global__ void __launch_bounds__(kThreads)
    QuantizeKernel(int64_t n, bool aligned, int bits, float limit, bool accumulate, const float* x,
                   const int32_t* exponents, int32_t* sum) {
  const int32_t exponent = exponents[blockIdx.x];
  const int64_t i = int64_t{blockIdx.x} * kBlock + 4 * threadIdx.x;
  alignas(16) int32_t sums[4] = {};
  if (exponent == kZero || exponent == kNonFinite) {
    if (!accumulate) Write(sum, i, n, aligned, sums);
    return;
  }
  // The scale of small exponents is beyond the largest float: two halves of it are not.
  const int shift = bits - 1 - exponent;
  const float low = PowerOfTwo(shift / 2);
  const float high = PowerOfTwo(shift - shift / 2);
  alignas(16) float values[4];
  Read(x, i, n, aligned, values);
  if (accumulate) Read(sum, i, n, aligned, sums);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float scaled = rintf(__fmul_rn(__fmul_rn(values[j], low), high));
    sums[j] += static_cast<int32_t>(fminf(fmaxf(scaled, -limit), limit));
  }
  Write(sum, i, n, aligned, sums);
}

__global__ void __launch_bounds__(kThreads)
    DequantizeKernel(int64_t n, bool aligned, int bits, const int32_t* sum,
                     const int32_t* exponents, float* x) {
  const int32_t exponent = exponents[blockIdx.x];
  const int64_t i = int64_t{blockIdx.x} * kBlock + 4 * threadIdx.x;
  alignas(16) int32_t sums[4];
  alignas(16) float values[4];
  Read(sum, i, n, aligned, sums);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (exponent == kNonFinite) {
      values[j] = __int_as_float(0x7FC00000);
    } else if (exponent == kZero) {
      values[j] = 0;
    } else {
      // Exact in double; the one rounding is that to float, which may make a denormal.
      values[j] = static_cast<float>(ldexp(static_cast<double>(sums[j]), exponent + 1 - bits));
    }
  }
  Write(x, i, n, aligned, values);
}

unsigned BlocksOf(int64_t n) { return static_cast<unsigned>(CeilDiv(n, kBlock)); }

}  // namespace

cudaError_t LaunchBlockExponents(const CudaLaunch& on, int64_t n, bool accumulate, const float* x,
                                 int32_t* exponents) {
  if (n == 0) return cudaSuccess;
  ExponentsKernel<<<BlocksOf(n), kThreads, 0, on.stream>>>(n, IsAligned(x), accumulate, x,
                                                           exponents);
  return cudaGetLastError();
}

cudaError_t LaunchQuantize(const CudaLaunch& on, int64_t n, int bits, bool accumulate,
                           const float* x, const int32_t* exponents, int32_t* sum) {
  if (n == 0) return cudaSuccess;
  // The largest float below 2^bits that is an integer.
  const float limit = std::ldexp(1.0F, bits) - std::ldexp(1.0F, std::max(0, bits - 24));
  QuantizeKernel<<<BlocksOf(n), kThreads, 0, on.stream>>>(n, IsAligned(x) && IsAligned(sum), bits,
                                                          limit, accumulate, x, exponents, sum);
  return cudaGetLastError();
}

cudaError_t LaunchDequantize(const CudaLaunch& on, int64_t n, int bits, const int32_t* sum,
                             const int32_t* exponents, float* x) {
  if (n == 0) return cudaSuccess;
  DequantizeKernel<<<BlocksOf(n), kThreads, 0, on.stream>>>(n, IsAligned(x) && IsAligned(sum), bits,
                                                            sum, exponents, x);
  return cudaGetLastError();
}

}  // namespace weft::kernels::internal
