// Launchers of sum on CUDA; sum.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

// Doubles that `partial` holds.
int64_t SumPartials(int64_t n);
cudaError_t LaunchSum(const CudaLaunch& on, int64_t n, const float* x, double* partial,
                      double* out);

}  // namespace weft::kernels::internal
