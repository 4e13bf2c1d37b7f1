#include "kernels/device/cuda/reduce.cuh"
#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/gradient_norm/gradient_norm_cuda.h"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlock = 4096;  // kSumOfSquaresBlock

__global__ void __launch_bounds__(kThreads)
    SquaresKernel(int64_t n, bool aligned, const float* x, double* partial) {
  __shared__ double shared[32];
  const int64_t first = int64_t{blockIdx.x} * kBlock;
  double sum = 0;
  for (int64_t i = first + 4 * threadIdx.x; i < min(first + kBlock, n); i += 4 * kThreads) {
    float value[4] = {};
    if (aligned && i + 4 <= n) {
      Load<4>(x + i, value);
    } else {
      for (int j = 0; j < 4 && i + j < n; ++j) value[j] = x[i + j];
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      sum += static_cast<double>(value[j]) * static_cast<double>(value[j]);
  }
  sum = BlockReduce<kThreads>(sum, AddOf(), shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(1024)
    SumKernel(int64_t parts, const double* partial, double* out) {
  __shared__ double shared[32];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += 1024) sum += partial[i];
  sum = BlockReduce<1024>(sum, AddOf(), shared);
  if (threadIdx.x == 0) *out = sum;
}

__global__ void ClipKernel(const double* sum_of_squares, double max_norm, float* clip) {
  double factor = 1;
  if (max_norm > 0) {
    const double norm = sqrt(*sum_of_squares);
    factor = norm <= max_norm ? 1 : max_norm / norm;  // a NaN norm comes out
  }
  *clip = static_cast<float>(factor);
}

}  // namespace

int64_t SumOfSquaresPartials(int64_t n) { return CeilDiv(n, kBlock); }

cudaError_t LaunchSumOfSquares(const CudaLaunch& on, int64_t n, const float* x, double* partial,
                               double* out) {
  const int64_t parts = SumOfSquaresPartials(n);
  if (parts > 0) {
    SquaresKernel<<<static_cast<unsigned>(parts), kThreads, 0, on.stream>>>(n, IsAligned(x), x,
                                                                            partial);
  }
  SumKernel<<<1, 1024, 0, on.stream>>>(parts, partial, out);
  return cudaGetLastError();
}

cudaError_t LaunchClipFactor(const CudaLaunch& on, const double* sum_of_squares, double max_norm,
                             float* clip) {
  ClipKernel<<<1, 1, 0, on.stream>>>(sum_of_squares, max_norm, clip);
  return cudaGetLastError();
}

}  // namespace weft::kernels::internal
