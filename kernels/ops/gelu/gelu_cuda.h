// Launchers of gelu on CUDA; gelu.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchGeluForward(const CudaLaunch& on, bool exact, int64_t n, const void* x, void* y);
cudaError_t LaunchGeluBackward(const CudaLaunch& on, bool exact, int64_t n, const void* x,
                               const void* dy, void* dx);

}  // namespace weft::kernels::internal
