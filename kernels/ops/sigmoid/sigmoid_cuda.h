// Launchers of sigmoid on CUDA; sigmoid.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchSigmoidForward(const CudaLaunch& on, int64_t n, float scale, const void* x,
                                 float* y);
cudaError_t LaunchSigmoidBackward(const CudaLaunch& on, int64_t n, float scale, const float* y,
                                  const float* dy, void* dx);

}  // namespace weft::kernels::internal
