// Launchers of mean_pool on CUDA; mean_pool.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

// `valid` may be null.
cudaError_t LaunchMeanPoolForward(const CudaLaunch& on, int64_t batch, int64_t tokens,
                                  int64_t channels, const void* x, const int32_t* valid, void* y);
cudaError_t LaunchMeanPoolBackward(const CudaLaunch& on, int64_t batch, int64_t tokens,
                                   int64_t channels, const void* dy, const int32_t* valid,
                                   void* dx);

}  // namespace weft::kernels::internal
