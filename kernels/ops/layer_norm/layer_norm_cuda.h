// Launchers of layer_norm on CUDA; layer_norm.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchLayerNormForward(const CudaLaunch& on, int64_t rows, int channels, float eps,
                                   const void* x, const void* w, const void* b, void* y,
                                   float* mean, float* rstd);

// Floats that `partial` holds.
int64_t LayerNormPartials(int64_t rows, int channels, bool sums_dx);
// dx_sums: null when they are not wanted.
cudaError_t LaunchLayerNormBackward(const CudaLaunch& on, int64_t rows, int channels,
                                    bool accumulate, const void* x, const void* w,
                                    const float* mean, const float* rstd, const void* dy, void* dx,
                                    float* dw, float* db, float* dx_sums, float* partial);

}  // namespace weft::kernels::internal
