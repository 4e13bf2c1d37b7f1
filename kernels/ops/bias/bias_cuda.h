// Launchers of bias on CUDA; bias.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchBiasForward(const CudaLaunch& on, int64_t rows, int64_t channels, const void* x,
                              const void* bias, void* y);

// Floats that `partial` holds.
int64_t BiasPartials(int64_t rows, int64_t channels);
cudaError_t LaunchBiasBackward(const CudaLaunch& on, int64_t rows, int64_t channels, const void* dy,
                               float* dbias, float* partial);

}  // namespace weft::kernels::internal
