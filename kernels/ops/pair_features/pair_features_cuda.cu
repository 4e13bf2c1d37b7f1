#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/pair_features/pair_features_cuda.h"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(int64_t n, int64_t channels, const T* x, T* y) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const int64_t row = i / channels;
  const int64_t c = i % channels;
  const T a = x[row * 2 * channels + c];
  const T b = x[row * 2 * channels + channels + c];
  T* features = y + row * 4 * channels + c;
  features[0] = a;
  features[channels] = b;
  features[2 * channels] = FromFloat<T>(ToFloat(a) * ToFloat(b));
  features[3 * channels] = FromFloat<T>(ToFloat(a) - ToFloat(b));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    BackwardKernel(int64_t n, int64_t channels, const T* x, const T* dy, T* dx) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const int64_t row = i / channels;
  const int64_t c = i % channels;
  const T* pair = x + row * 2 * channels + c;
  const T* slopes = dy + row * 4 * channels + c;
  const float product = ToFloat(slopes[2 * channels]);
  const float difference = ToFloat(slopes[3 * channels]);
  T* result = dx + row * 2 * channels + c;
  result[0] = FromFloat<T>(ToFloat(slopes[0]) + product * ToFloat(pair[channels]) + difference);
  result[channels] =
      FromFloat<T>(ToFloat(slopes[channels]) + product * ToFloat(pair[0]) - difference);
}

}  // namespace

cudaError_t LaunchPairFeaturesForward(const CudaLaunch& on, int64_t rows, int64_t channels,
                                      const void* x, void* y) {
  const int64_t n = rows * channels;
  if (n == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    ForwardKernel<<<static_cast<unsigned>(CeilDiv(n, kThreads)), kThreads, 0, on.stream>>>(
        n, channels, static_cast<const T*>(x), static_cast<T*>(y));
    return cudaGetLastError();
  });
}

cudaError_t LaunchPairFeaturesBackward(const CudaLaunch& on, int64_t rows, int64_t channels,
                                       const void* x, const void* dy, void* dx) {
  const int64_t n = rows * channels;
  if (n == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    BackwardKernel<<<static_cast<unsigned>(CeilDiv(n, kThreads)), kThreads, 0, on.stream>>>(
        n, channels, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dx));
    return cudaGetLastError();
  });
}

}  // namespace weft::kernels::internal
