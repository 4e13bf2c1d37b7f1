// Launchers of swiglu on CUDA; swiglu.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchSwigluForward(const CudaLaunch& on, int64_t n, const void* gate, const void* up,
                                void* y);
cudaError_t LaunchSwigluBackward(const CudaLaunch& on, int64_t n, const void* gate, const void* up,
                                 const void* dy, void* dgate, void* dup);

}  // namespace weft::kernels::internal
