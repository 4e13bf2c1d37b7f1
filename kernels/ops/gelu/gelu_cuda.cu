#include "kernels/device/cuda/map.cuh"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/gelu/gelu_cuda.h"

namespace weft::kernels::internal {
namespace {

template <bool kExact, typename T>
struct ForwardOf {
  __device__ void operator()(float a, float, float, float& b, float&) const {
    b = GeluOf<kExact, T>(a);
  }
};
template <bool kExact, typename T>
struct BackwardOf {
  __device__ void operator()(float a, float d, float, float& b, float&) const {
    b = d * GeluSlope<kExact, T>(a);
  }
};

}  // namespace

cudaError_t LaunchGeluForward(const CudaLaunch& on, bool exact, int64_t n, const void* x, void* y) {
  return ForComputeType(on, [&]<typename T>() {
    const auto* in = static_cast<const T*>(x);
    auto* out = static_cast<T*>(y);
    return exact ? Map1(on, n, ForwardOf<true, T>(), in, out)
                 : Map1(on, n, ForwardOf<false, T>(), in, out);
  });
}

cudaError_t LaunchGeluBackward(const CudaLaunch& on, bool exact, int64_t n, const void* x,
                               const void* dy, void* dx) {
  return ForComputeType(on, [&]<typename T>() {
    const auto* in = static_cast<const T*>(x);
    const auto* slope = static_cast<const T*>(dy);
    auto* out = static_cast<T*>(dx);
    return exact ? Map2(on, n, BackwardOf<true, T>(), in, slope, out)
                 : Map2(on, n, BackwardOf<false, T>(), in, slope, out);
  });
}

}  // namespace weft::kernels::internal
