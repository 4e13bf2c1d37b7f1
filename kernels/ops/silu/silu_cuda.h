// Launchers of silu on CUDA; silu.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchSiluForward(const CudaLaunch& on, int64_t n, const void* x, void* y);
cudaError_t LaunchSiluBackward(const CudaLaunch& on, int64_t n, const void* x, const void* dy,
                               void* dx);

}  // namespace weft::kernels::internal
