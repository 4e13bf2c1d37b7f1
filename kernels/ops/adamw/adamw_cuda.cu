#include "kernels/device/cuda/vector.cuh"
#include "kernels/ops/adamw/adamw_cuda.h"

namespace weft::kernels::internal {
namespace {

constexpr int kThreads = 256;

template <int V, typename T>
__device__ void Update(const AdamWFactors& f, float clip, int64_t i, const float* gradient,
                       float* parameter, float* m, float* v, T* rounded) {
  float g[V], value[V], mean[V], square[V];
  Load<V>(gradient + i, g);
  Load<V>(parameter + i, value);
  Load<V>(m + i, mean);
  Load<V>(v + i, square);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const float clipped = clip * g[j];
    mean[j] = f.beta1 * mean[j] + f.one_minus_beta1 * clipped;
    square[j] = f.beta2 * square[j] + f.one_minus_beta2 * clipped * clipped;
    const float size = sqrtf(square[j]) * f.inverse_sqrt_correction + f.epsilon;
    value[j] = f.decay * value[j] - f.step_size * mean[j] / size;
  }
  Store<V>(parameter + i, value);
  Store<V>(m + i, mean);
  Store<V>(v + i, square);
  if (rounded != nullptr) Store<V>(rounded + i, value);
}

template <int V, typename T>
__global__ void __launch_bounds__(kThreads)
    Kernel(AdamWFactors factors, int64_t n, const float* gradient, const float* clip,
           float* parameter, float* m, float* v, T* rounded) {
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  const float factor = *clip;
  if (first + V <= n) {
    Update<V>(factors, factor, first, gradient, parameter, m, v, rounded);
  } else {
    for (int64_t i = first; i < n; ++i) {
      Update<1>(factors, factor, i, gradient, parameter, m, v, rounded);
    }
  }
}

}  // namespace

cudaError_t LaunchAdamW(const CudaLaunch& on, const AdamWFactors& factors, int64_t n,
                        const float* gradient, const float* clip, float* parameter, float* m,
                        float* v, void* rounded) {
  if (n == 0) return cudaSuccess;
  return ForComputeType(on, [&]<typename T>() {
    const bool aligned = IsAligned(gradient) && IsAligned(parameter) && IsAligned(m) &&
                         IsAligned(v) && IsAligned(rounded);
    const auto launch = [&]<int V>() {
      Kernel<V><<<static_cast<unsigned>(CeilDiv(n, kThreads * V)), kThreads, 0, on.stream>>>(
          factors, n, gradient, clip, parameter, m, v, static_cast<T*>(rounded));
      return cudaGetLastError();
    };
    return aligned ? launch.template operator()<kVector<T>>() : launch.template operator()<1>();
  });
}

}  // namespace weft::kernels::internal
