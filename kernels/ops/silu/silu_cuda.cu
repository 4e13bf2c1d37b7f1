#include "kernels/device/cuda/map.cuh"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/silu/silu_cuda.h"

namespace weft::kernels::internal {
namespace {

template <typename T>
struct ForwardOf {
  __device__ void operator()(float a, float, float, float& b, float&) const { b = SiluOf<T>(a); }
};
template <typename T>
struct BackwardOf {
  __device__ void operator()(float a, float d, float, float& b, float&) const {
    b = d * SiluSlope<T>(a);
  }
};

}  // namespace

cudaError_t LaunchSiluForward(const CudaLaunch& on, int64_t n, const void* x, void* y) {
  return ForComputeType(on, [&]<typename T>() {
    return Map1(on, n, ForwardOf<T>(), static_cast<const T*>(x), static_cast<T*>(y));
  });
}

cudaError_t LaunchSiluBackward(const CudaLaunch& on, int64_t n, const void* x, const void* dy,
                               void* dx) {
  return ForComputeType(on, [&]<typename T>() {
    return Map2(on, n, BackwardOf<T>(), static_cast<const T*>(x), static_cast<const T*>(dy),
                static_cast<T*>(dx));
  });
}

}  // namespace weft::kernels::internal
