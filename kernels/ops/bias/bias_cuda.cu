#include "kernels/ops/bias/bias_cuda.h"
#include "kernels/ops/cuda_column_sums.cuh"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 128;

template <int V, typename T>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(int64_t rows, int64_t channels, const T* x, const T* bias, T* y) {
  const int64_t column = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (column >= channels) return;
  float shift[V];
  Load<V>(bias + column, shift);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    float value[V];
    Load<V>(x + row * channels + column, value);
#pragma unroll
    for (int j = 0; j < V; ++j) value[j] += shift[j];
    Store<V>(y + row * channels + column, value);
  }
}

// A warp has the rows of its block that are its turn; the warps of a block are added in their
// order.
constexpr int kWarps = 8;

template <int V, typename T>
__global__ void __launch_bounds__(32 * kWarps)
    BackwardKernel(int64_t rows, int64_t rows_of_block, int64_t channels, const T* dy,
                   float* partial) {
  __shared__ float of_warp[kWarps][32 * V];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int64_t column = (int64_t{blockIdx.x} * 32 + lane) * V;
  const int64_t first = int64_t{blockIdx.y} * rows_of_block;
  const int64_t last = min(first + rows_of_block, rows);
  float sum[V] = {};
  if (column < channels) {
    for (int64_t row = first + warp; row < last; row += kWarps) {
      float value[V];
      Load<V>(dy + row * channels + column, value);
#pragma unroll
      for (int j = 0; j < V; ++j) sum[j] += value[j];
    }
  }
#pragma unroll
  for (int j = 0; j < V; ++j) of_warp[warp][j * 32 + lane] = sum[j];
  __syncthreads();
  if (warp != 0 || column >= channels) return;
#pragma unroll
  for (int j = 0; j < V; ++j) {
    for (int other = 1; other < kWarps; ++other) sum[j] += of_warp[other][j * 32 + lane];
    partial[int64_t{blockIdx.y} * channels + column + j] = sum[j];
  }
}

constexpr int64_t RowsOfBlock(int64_t rows, int64_t channels) {
  // Beside the blocks that the columns make, as many parts as are four blocks of a multiprocessor.
  constexpr int64_t kMost = 2 * kRowParts;
  const int64_t parts = std::clamp<int64_t>(kMost * 256 / std::max<int64_t>(channels, 1), 1, kMost);
  return std::max<int64_t>(CeilDiv(rows, parts), 1);
}

}  // namespace

cudaError_t LaunchBiasForward(const CudaLaunch& on, int64_t rows, int64_t channels, const void* x,
                              const void* bias, void* y) {
  if (rows == 0 || channels == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const bool wide = IsAligned(x) && IsAligned(bias) && IsAligned(y) && channels % kVector<T> == 0;
    const auto launch = [&]<int V>() {
      const dim3 grid(static_cast<unsigned>(CeilDiv(channels, kThreads * V)),
                      static_cast<unsigned>(std::min<int64_t>(rows, 4096)));
      ForwardKernel<V><<<grid, kThreads, 0, on.stream>>>(rows, channels, static_cast<const T*>(x),
                                                         static_cast<const T*>(bias),
                                                         static_cast<T*>(y));
      return cudaGetLastError();
    };
    return wide ? launch.template operator()<kVector<T>>() : launch.template operator()<1>();
  });
}

int64_t BiasPartials(int64_t rows, int64_t channels) {
  return CeilDiv(rows, RowsOfBlock(rows, channels)) * channels;
}

cudaError_t LaunchBiasBackward(const CudaLaunch& on, int64_t rows, int64_t channels, const void* dy,
                               float* dbias, float* partial) {
  if (rows == 0 || channels == 0) return cudaSuccess;
  const int64_t rows_of_block = RowsOfBlock(rows, channels);
  const int64_t parts = CeilDiv(rows, rows_of_block);
  const cudaError_t error = ForComputeType(on, [&]<typename T>() {
    const bool wide = IsAligned(dy) && channels % kVector<T> == 0;
    const auto launch = [&]<int V>() {
      const dim3 grid(static_cast<unsigned>(CeilDiv(channels, 32 * V)),
                      static_cast<unsigned>(parts));
      BackwardKernel<V><<<grid, 32 * kWarps, 0, on.stream>>>(rows, rows_of_block, channels,
                                                             static_cast<const T*>(dy), partial);
      return cudaGetLastError();
    };
    return wide ? launch.template operator()<kVector<T>>() : launch.template operator()<1>();
  });
  if (error != cudaSuccess) return error;
  return AddParts(on, parts, channels, partial, dbias);
}

}  // namespace weft::kernels::internal
