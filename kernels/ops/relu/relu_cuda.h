// Launchers of relu on CUDA; relu.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchReluForward(const CudaLaunch& on, int64_t n, const void* x, void* y);
cudaError_t LaunchReluBackward(const CudaLaunch& on, int64_t n, const void* y, const void* dy,
                               void* dx);

}  // namespace weft::kernels::internal
