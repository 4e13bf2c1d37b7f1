#include "kernels/device/cuda/map.cuh"
#include "kernels/ops/cuda_activations.cuh"
#include "kernels/ops/sigmoid/sigmoid_cuda.h"

namespace weft::kernels::internal {
namespace {

struct ForwardOf {
  float scale;
  __device__ void operator()(float a, float, float, float& b, float&) const {
    b = scale * SigmoidOf<float>(a);
  }
};
struct BackwardOf {
  float inverse_scale;
  __device__ void operator()(float y, float d, float, float& b, float&) const {
    b = d * y * (1.0F - y * inverse_scale);
  }
};

}  // namespace

cudaError_t LaunchSigmoidForward(const CudaLaunch& on, int64_t n, float scale, const void* x,
                                 float* y) {
  return ForComputeType(
      on, [&]<typename T>() { return Map1(on, n, ForwardOf{scale}, static_cast<const T*>(x), y); });
}

cudaError_t LaunchSigmoidBackward(const CudaLaunch& on, int64_t n, float scale, const float* y,
                                  const float* dy, void* dx) {
  return ForComputeType(on, [&]<typename T>() {
    return Map2(on, n, BackwardOf{1.0F / scale}, y, dy, static_cast<T*>(dx));
  });
}

}  // namespace weft::kernels::internal
