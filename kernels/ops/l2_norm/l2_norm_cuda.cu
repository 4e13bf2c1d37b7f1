#include "kernels/ops/cuda_norm.cuh"
#include "kernels/ops/l2_norm/l2_norm_cuda.h"

namespace weft::kernels::internal {
namespace {

template <int V, int kThreads, int kParts, typename T>
__global__ void __launch_bounds__(kNormBlock)
    ForwardKernel(NormShape shape, float eps, float scale, const T* x, T* y, float* inverse_norm) {
  __shared__ float shared[32];
  const int64_t row = int64_t{blockIdx.x} * (kNormBlock / kThreads) + threadIdx.x / kThreads;
  const bool exists = row < shape.rows;
  RowPart<V, kThreads, kParts> part;
  part.Read(x + (exists ? row : 0) * shape.channels, shape.channels);
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
#pragma unroll
    for (int j = 0; j < V; ++j) squares += part.x[p][j] * part.x[p][j];
  }
  const float inverse = 1.0F / sqrtf(RowSum<kThreads>(squares, shared) + eps);
  if (!exists) return;
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
#pragma unroll
    for (int j = 0; j < V; ++j) part.x[p][j] *= scale * inverse;
  }
  part.Write(y + row * shape.channels, shape.channels);
  if (threadIdx.x % kThreads == 0) inverse_norm[row] = inverse;
}

template <int V, int kThreads, int kParts, typename T>
__global__ void __launch_bounds__(kNormBlock)
    BackwardKernel(NormShape shape, float scale, const T* y, const float* inverse_norm, const T* dy,
                   T* dx) {
  __shared__ float shared[32];
  const int64_t row = int64_t{blockIdx.x} * (kNormBlock / kThreads) + threadIdx.x / kThreads;
  const bool exists = row < shape.rows;
  const int64_t at = (exists ? row : 0) * shape.channels;
  RowPart<V, kThreads, kParts> value, slope;
  value.Read(y + at, shape.channels);
  slope.Read(dy + at, shape.channels);
  float dot = 0;
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
#pragma unroll
    for (int j = 0; j < V; ++j) dot += value.x[p][j] * slope.x[p][j];
  }
  dot = RowSum<kThreads>(dot, shared) / scale;
  if (!exists) return;
  const float inverse = inverse_norm[row];
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      slope.x[p][j] = inverse * (scale * slope.x[p][j] - value.x[p][j] * dot);
    }
  }
  slope.Write(dx + at, shape.channels);
}

}  // namespace

cudaError_t LaunchL2NormForward(const CudaLaunch& on, int64_t rows, int width, float eps,
                                float scale, const void* x, void* y, float* inverse_norm) {
  if (rows == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const bool aligned = IsAligned(x) && IsAligned(y);
    return ForRowShape<T, false>(width, aligned, [&]<int V, int kThreads, int kParts>() {
      const auto blocks = static_cast<unsigned>(CeilDiv(rows, kNormBlock / kThreads));
      ForwardKernel<V, kThreads, kParts><<<blocks, kNormBlock, 0, on.stream>>>(
          NormShape{rows, width}, eps, scale, static_cast<const T*>(x), static_cast<T*>(y),
          inverse_norm);
      return cudaGetLastError();
    });
  });
}

cudaError_t LaunchL2NormBackward(const CudaLaunch& on, int64_t rows, int width, float scale,
                                 const void* y, const float* inverse_norm, const void* dy,
                                 void* dx) {
  if (rows == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const bool aligned = IsAligned(y) && IsAligned(dy) && IsAligned(dx);
    return ForRowShape<T, false>(width, aligned, [&]<int V, int kThreads, int kParts>() {
      const auto blocks = static_cast<unsigned>(CeilDiv(rows, kNormBlock / kThreads));
      BackwardKernel<V, kThreads, kParts><<<blocks, kNormBlock, 0, on.stream>>>(
          NormShape{rows, width}, scale, static_cast<const T*>(y), inverse_norm,
          static_cast<const T*>(dy), static_cast<T*>(dx));
      return cudaGetLastError();
    });
  });
}

}  // namespace weft::kernels::internal
