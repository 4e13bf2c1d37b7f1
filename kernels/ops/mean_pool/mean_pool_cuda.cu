#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/mean_pool/mean_pool_cuda.h"

namespace weft::kernels::internal {
namespace {

// Tokens are dealt to the kTurns warps of a block in turns; a warp has 32 channels.
constexpr int kTurns = 16;

template <typename T>
__global__ void __launch_bounds__(32 * kTurns)
    ForwardKernel(int64_t tokens, int64_t channels, const T* x, const int32_t* valid, T* y) {
  __shared__ float of_warp[kTurns][32];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int64_t channel = int64_t{blockIdx.x} * 32 + lane;
  const int64_t first = int64_t{blockIdx.y} * tokens;
  float sum = 0;
  if (channel < channels) {
    for (int64_t t = warp; t < tokens; t += kTurns) {
      if (valid == nullptr || valid[first + t] != 0) {
        sum += ToFloat(x[(first + t) * channels + channel]);
      }
    }
  }
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || channel >= channels) return;
  for (int other = 1; other < kTurns; ++other) sum += of_warp[other][lane];
  y[int64_t{blockIdx.y} * channels + channel] = FromFloat<T>(sum / static_cast<float>(tokens));
}

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    BackwardKernel(int64_t n, int64_t tokens, int64_t channels, const T* dy, const int32_t* valid,
                   T* dx) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const int64_t token = i / channels;
  const bool counts = valid == nullptr || valid[token] != 0;
  const float slope = ToFloat(dy[token / tokens * channels + i % channels]);
  dx[i] = FromFloat<T>(counts ? slope / static_cast<float>(tokens) : 0.0F);
}

}  // namespace

cudaError_t LaunchMeanPoolForward(const CudaLaunch& on, int64_t batch, int64_t tokens,
                                  int64_t channels, const void* x, const int32_t* valid, void* y) {
  if (batch == 0 || channels == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const dim3 grid(static_cast<unsigned>(CeilDiv(channels, 32)), static_cast<unsigned>(batch));
    ForwardKernel<<<grid, 32 * kTurns, 0, on.stream>>>(tokens, channels, static_cast<const T*>(x),
                                                       valid, static_cast<T*>(y));
    return cudaGetLastError();
  });
}

cudaError_t LaunchMeanPoolBackward(const CudaLaunch& on, int64_t batch, int64_t tokens,
                                   int64_t channels, const void* dy, const int32_t* valid,
                                   void* dx) {
  const int64_t n = batch * tokens * channels;
  if (n == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    BackwardKernel<<<static_cast<unsigned>(CeilDiv(n, kThreads)), kThreads, 0, on.stream>>>(
        n, tokens, channels, static_cast<const T*>(dy), valid, static_cast<T*>(dx));
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::internal
