// Launchers of l2_norm on CUDA; l2_norm.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchL2NormForward(const CudaLaunch& on, int64_t rows, int width, float eps,
                                float scale, const void* x, void* y, float* inverse_norm);
cudaError_t LaunchL2NormBackward(const CudaLaunch& on, int64_t rows, int width, float scale,
                                 const void* y, const float* inverse_norm, const void* dy,
                                 void* dx);

}  // namespace weft::kernels::internal
