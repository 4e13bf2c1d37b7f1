#include "kernels/ops/cuda_norm.cuh"
#include "kernels/ops/layer_norm/layer_norm_cuda.h"

namespace weft::kernels::internal {

cudaError_t LaunchLayerNormForward(const CudaLaunch& on, int64_t rows, int channels, float eps,
                                   const void* x, const void* w, const void* b, void* y,
                                   float* mean, float* rstd) {
  return ForComputeType(on, [&]<typename T>() {
    return NormForward<true>(on, NormShape{rows, channels}, eps, static_cast<const T*>(x),
                             static_cast<const T*>(w), static_cast<const T*>(b), static_cast<T*>(y),
                             mean, rstd);
  });
}

int64_t LayerNormPartials(int64_t rows, int channels, bool sums_dx) {
  return NormPartials({rows, channels}, true, sums_dx);
}

cudaError_t LaunchLayerNormBackward(const CudaLaunch& on, int64_t rows, int channels,
                                    bool accumulate, const void* x, const void* w,
                                    const float* mean, const float* rstd, const void* dy, void* dx,
                                    float* dw, float* db, float* dx_sums, float* partial) {
  return ForComputeType(on, [&]<typename T>() {
    return NormBackward<true>(on, NormShape{rows, channels}, accumulate, static_cast<const T*>(x),
                              static_cast<const T*>(w), mean, rstd, static_cast<const T*>(dy),
                              static_cast<T*>(dx), dw, db, dx_sums, partial);
  });
}

}  // namespace weft::kernels::internal
