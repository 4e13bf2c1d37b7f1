#include "kernels/device/cuda/map.cuh"
#include "kernels/ops/relu/relu_cuda.h"

namespace weft::kernels::internal {
namespace {

struct ForwardOf {
  __device__ void operator()(float a, float, float, float& b, float&) const { b = a < 0 ? 0 : a; }
};
struct BackwardOf {
  __device__ void operator()(float a, float d, float, float& b, float&) const { b = a > 0 ? d : 0; }
};

}  // namespace

cudaError_t LaunchReluForward(const CudaLaunch& on, int64_t n, const void* x, void* y) {
  return ForComputeType(on, [&]<typename T>() {
    return Map1(on, n, ForwardOf(), static_cast<const T*>(x), static_cast<T*>(y));
  });
}

cudaError_t LaunchReluBackward(const CudaLaunch& on, int64_t n, const void* y, const void* dy,
                               void* dx) {
  return ForComputeType(on, [&]<typename T>() {
    return Map2(on, n, BackwardOf(), static_cast<const T*>(y), static_cast<const T*>(dy),
                static_cast<T*>(dx));
  });
}

}  // namespace weft::kernels::internal
