#include "kernels/device/cuda/map.cuh"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/geglu/geglu_cuda.h"

namespace weft::kernels::internal {
namespace {

template <bool kExact, typename T>
struct ForwardOf {
  __device__ void operator()(float gate, float up, float, float& y, float&) const {
    y = GeluOf<kExact, T>(gate) * up;
  }
};
template <bool kExact, typename T>
struct BackwardOf {
  __device__ void operator()(float gate, float up, float d, float& dgate, float& dup) const {
    dgate = d * up * GeluSlope<kExact, T>(gate);
    dup = d * GeluOf<kExact, T>(gate);
  }
};

}  // namespace

cudaError_t LaunchGegluForward(const CudaLaunch& on, bool exact, int64_t n, const void* gate,
                               const void* up, void* y) {
  return ForComputeType(on, [&]<typename T>() {
    const auto* g = static_cast<const T*>(gate);
    const auto* u = static_cast<const T*>(up);
    auto* out = static_cast<T*>(y);
    return exact ? Map2(on, n, ForwardOf<true, T>(), g, u, out)
                 : Map2(on, n, ForwardOf<false, T>(), g, u, out);
  });
}

cudaError_t LaunchGegluBackward(const CudaLaunch& on, bool exact, int64_t n, const void* gate,
                                const void* up, const void* dy, void* dgate, void* dup) {
  return ForComputeType(on, [&]<typename T>() {
    const auto* g = static_cast<const T*>(gate);
    const auto* u = static_cast<const T*>(up);
    const auto* d = static_cast<const T*>(dy);
    auto* dg = static_cast<T*>(dgate);
    auto* du = static_cast<T*>(dup);
    return exact ? Map(on, n, BackwardOf<true, T>(), g, u, d, dg, du)
                 : Map(on, n, BackwardOf<false, T>(), g, u, d, dg, du);
  });
}

}  // namespace weft::kernels::internal
