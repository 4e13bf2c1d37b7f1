#include "kernels/device/cuda/map.cuh"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/swiglu/swiglu_cuda.h"

namespace weft::kernels::internal {
namespace {

template <typename T>
struct ForwardOf {
  __device__ void operator()(float gate, float up, float, float& y, float&) const {
    y = SiluOf<T>(gate) * up;
  }
};
template <typename T>
struct BackwardOf {
  __device__ void operator()(float gate, float up, float d, float& dgate, float& dup) const {
    dgate = d * up * SiluSlope<T>(gate);
    dup = d * SiluOf<T>(gate);
  }
};

}  // namespace

cudaError_t LaunchSwigluForward(const CudaLaunch& on, int64_t n, const void* gate, const void* up,
                                void* y) {
  return ForComputeType(on, [&]<typename T>() {
    return Map2(on, n, ForwardOf<T>(), static_cast<const T*>(gate), static_cast<const T*>(up),
                static_cast<T*>(y));
  });
}

cudaError_t LaunchSwigluBackward(const CudaLaunch& on, int64_t n, const void* gate, const void* up,
                                 const void* dy, void* dgate, void* dup) {
  return ForComputeType(on, [&]<typename T>() {
    return Map(on, n, BackwardOf<T>(), static_cast<const T*>(gate), static_cast<const T*>(up),
               static_cast<const T*>(dy), static_cast<T*>(dgate), static_cast<T*>(dup));
  });
}

}  // namespace weft::kernels::internal
