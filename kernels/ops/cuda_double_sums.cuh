// Sums of floats in fp64 that are the same for every run: blocks of 4,096 elements, then the
// blocks. For op code only.
#pragma once

#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels {

inline constexpr int64_t kDoubleSumBlock = 4096;

// Doubles that `partial` holds.
constexpr int64_t DoubleSumPartials(int64_t n) { return CeilDiv(n, kDoubleSumBlock); }

namespace double_sums_internal {

constexpr int kThreads = 256;

template <typename F>
__global__ void __launch_bounds__(kThreads)
    PartKernel(int64_t n, bool aligned, F f, const float* x, double* partial) {
  __shared__ double shared[32];
  const int64_t first = int64_t{blockIdx.x} * kDoubleSumBlock;
  double sum = 0;
  for (int64_t i = first + 4 * threadIdx.x; i < min(first + kDoubleSumBlock, n);
       i += 4 * kThreads) {
    float value[4] = {};
    if (aligned && i + 4 <= n) {
      Load<4>(x + i, value);
    } else {
      for (int j = 0; j < 4 && i + j < n; ++j) value[j] = x[i + j];
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += f(static_cast<double>(value[j]));
  }
  sum = BlockReduce<kThreads>(sum, AddOf(), shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(1024)
    TotalKernel(int64_t parts, const double* partial, double* out) {
  __shared__ double shared[32];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += 1024) sum += partial[i];
  sum = BlockReduce<1024>(sum, AddOf(), shared);
  if (threadIdx.x == 0) *out = sum;
}

}  // namespace double_sums_internal

// *out = the sum of f(x[i]), where f(0) is 0.
template <typename F>
cudaError_t SumInDouble(const CudaLaunch& on, int64_t n, const F& f, const float* x,
                        double* partial, double* out) {
  namespace internal = double_sums_internal;
  const int64_t parts = DoubleSumPartials(n);
  if (parts > 0) {
    internal::PartKernel<<<static_cast<unsigned>(parts), internal::kThreads, 0, on.stream>>>(
        n, IsAligned(x), f, x, partial);
  }
  internal::TotalKernel<<<1, 1024, 0, on.stream>>>(parts, partial, out);
  return cudaGetLastError();
}

}  // namespace weft::kernels
