#include "kernels/ops/cuda_norm.cuh"
#include "kernels/ops/rms_norm/rms_norm_cuda.h"

namespace weft::kernels::internal {

cudaError_t LaunchRmsNormForward(const CudaLaunch& on, int64_t rows, int channels, float eps,
                                 const void* x, const void* w, void* y, float* rstd) {
  return ForComputeType(on, [&]<typename T>() {
    return NormForward<false>(on, NormShape{rows, channels}, eps, static_cast<const T*>(x),
                              static_cast<const T*>(w), static_cast<const T*>(nullptr),
                              static_cast<T*>(y), nullptr, rstd);
  });
}

int64_t RmsNormPartials(int64_t rows, int channels, bool sums_dx) {
  return NormPartials({rows, channels}, false, sums_dx);
}

cudaError_t LaunchRmsNormBackward(const CudaLaunch& on, int64_t rows, int channels, bool accumulate,
                                  const void* x, const void* w, const float* rstd, const void* dy,
                                  void* dx, float* dw, float* dx_sums, float* partial) {
  return ForComputeType(on, [&]<typename T>() {
    return NormBackward<false>(on, NormShape{rows, channels}, accumulate, static_cast<const T*>(x),
                               static_cast<const T*>(w), nullptr, rstd, static_cast<const T*>(dy),
                               static_cast<T*>(dx), dw, nullptr, dx_sums, partial);
  });
}

}  // namespace weft::kernels::internal
