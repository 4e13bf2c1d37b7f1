#include "kernels/attention/polysketch/cuda/sketches_cuda.h"
#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ScaledProductKernel(int64_t n, float factor, const T* a, const T* b, T* product) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) product[i] = FromFloat<T>(factor * ToFloat(a[i]) * ToFloat(b[i]));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ScaledProductBackwardKernel(int64_t n, float factor, const T* d_product, const T* a, const T* b,
                                T* d_a, T* d_b) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const float slope = factor * ToFloat(d_product[i]);
  const float x = ToFloat(a[i]), y = ToFloat(b[i]);
  d_a[i] = FromFloat<T>(slope * y);
  d_b[i] = FromFloat<T>(slope * x);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    BoundedProductKernel(int64_t n, float bound, const T* a, const T* b, T* phi) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) phi[i] = FromFloat<T>(bound * tanhf(ToFloat(a[i]) * ToFloat(b[i]) / bound));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    BoundedProductBackwardKernel(int64_t n, float bound, const T* phi, const T* d_phi, const T* a,
                                 const T* b, T* d_a, T* d_b) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const float part = ToFloat(phi[i]) / bound;
  const float slope = ToFloat(d_phi[i]) * (1.0F - part * part);
  const float x = ToFloat(a[i]), y = ToFloat(b[i]);
  d_a[i] = FromFloat<T>(slope * y);
  d_b[i] = FromFloat<T>(slope * x);
}

template <typename Kernel, typename... Args>
cudaError_t ForElements(const CudaLaunch& on, int64_t n, Kernel kernel, Args... args) {
  if (n == 0) return cudaSuccess;
  kernel<<<static_cast<unsigned>(CeilDiv(n, kThreads)), kThreads, 0, on.stream>>>(n, args...);
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchScaledProduct(const CudaLaunch& on, int64_t n, float factor, const void* a,
                                const void* b, void* product) {
  return ForComputeType(on, [&]<typename T>() {
    return ForElements(on, n, ScaledProductKernel<T>, factor, static_cast<const T*>(a),
                       static_cast<const T*>(b), static_cast<T*>(product));
  });
}

cudaError_t LaunchScaledProductBackward(const CudaLaunch& on, int64_t n, float factor,
                                        const void* d_product, const void* a, const void* b,
                                        void* d_a, void* d_b) {
  return ForComputeType(on, [&]<typename T>() {
    return ForElements(on, n, ScaledProductBackwardKernel<T>, factor,
                       static_cast<const T*>(d_product), static_cast<const T*>(a),
                       static_cast<const T*>(b), static_cast<T*>(d_a), static_cast<T*>(d_b));
  });
}

cudaError_t LaunchBoundedProduct(const CudaLaunch& on, int64_t n, float bound, const void* a,
                                 const void* b, void* phi) {
  return ForComputeType(on, [&]<typename T>() {
    return ForElements(on, n, BoundedProductKernel<T>, bound, static_cast<const T*>(a),
                       static_cast<const T*>(b), static_cast<T*>(phi));
  });
}

cudaError_t LaunchBoundedProductBackward(const CudaLaunch& on, int64_t n, float bound,
                                         const void* phi, const void* d_phi, const void* a,
                                         const void* b, void* d_a, void* d_b) {
  return ForComputeType(on, [&]<typename T>() {
    return ForElements(on, n, BoundedProductBackwardKernel<T>, bound, static_cast<const T*>(phi),
                       static_cast<const T*>(d_phi), static_cast<const T*>(a),
                       static_cast<const T*>(b), static_cast<T*>(d_a), static_cast<T*>(d_b));
  });
}

}  // namespace weft::kernels::internal
