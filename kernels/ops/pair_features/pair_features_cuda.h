// Launchers of pair_features on CUDA; pair_features.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchPairFeaturesForward(const CudaLaunch& on, int64_t rows, int64_t channels,
                                      const void* x, void* y);
cudaError_t LaunchPairFeaturesBackward(const CudaLaunch& on, int64_t rows, int64_t channels,
                                       const void* x, const void* dy, void* dx);

}  // namespace weft::kernels::internal
