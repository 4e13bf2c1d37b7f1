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

// V elements a thread, here and below: 8, or 1 where addresses do not allow it.
template <int V, typename T>
__global__ void __launch_bounds__(kThreads)
    BoundedProductKernel(int64_t n, float bound, const T* a, const T* b, T* phi) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (i >= n) return;
  float x[V], y[V];
  Load<V>(a + i, x);
  Load<V>(b + i, y);
#pragma unroll
  for (int j = 0; j < V; ++j) x[j] = bound * tanhf(x[j] * y[j] / bound);
  Store<V>(phi + i, x);
}

template <int V, typename T>
__global__ void __launch_bounds__(kThreads)
    BoundedProductBackwardKernel(int64_t n, float bound, const T* phi, const T* d_phi, const T* a,
                                 const T* b, T* d_a, T* d_b) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (i >= n) return;
  float part[V], slope[V], x[V], y[V];
  Load<V>(phi + i, part);
  Load<V>(d_phi + i, slope);
  Load<V>(a + i, x);
  Load<V>(b + i, y);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    part[j] /= bound;
    slope[j] *= 1.0F - part[j] * part[j];
    const float old = x[j];
    x[j] = slope[j] * y[j];
    y[j] = slope[j] * old;
  }
  Store<V>(d_a + i, x);
  Store<V>(d_b + i, y);
}

// Whether 8 elements can be read and written at a time.
template <typename... Addresses>
bool ByVectors(int64_t n, Addresses... addresses) {
  return n % 8 == 0 && (IsAligned(addresses) && ...);
}

template <int V = 1, typename Kernel, typename... Args>
cudaError_t ForElements(const CudaLaunch& on, int64_t n, Kernel kernel, Args... args) {
  if (n == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(CeilDiv(n, kThreads * V));
  kernel<<<blocks, kThreads, 0, on.stream>>>(n, args...);
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
    const auto launch = [&]<int V>() {
      return ForElements<V>(on, n, BoundedProductKernel<V, T>, bound, static_cast<const T*>(a),
                            static_cast<const T*>(b), static_cast<T*>(phi));
    };
    return ByVectors(n, a, b, phi) ? launch.template operator()<8>()
                                   : launch.template operator()<1>();
  });
}

cudaError_t LaunchBoundedProductBackward(const CudaLaunch& on, int64_t n, float bound,
                                         const void* phi, const void* d_phi, const void* a,
                                         const void* b, void* d_a, void* d_b) {
  return ForComputeType(on, [&]<typename T>() {
    const auto launch = [&]<int V>() {
      return ForElements<V>(on, n, BoundedProductBackwardKernel<V, T>, bound,
                            static_cast<const T*>(phi), static_cast<const T*>(d_phi),
                            static_cast<const T*>(a), static_cast<const T*>(b),
                            static_cast<T*>(d_a), static_cast<T*>(d_b));
    };
    return ByVectors(n, phi, d_phi, a, b, d_a, d_b) ? launch.template operator()<8>()
                                                    : launch.template operator()<1>();
  });
}

}  // namespace weft::kernels::internal
