// Launchers of gradient_norm on CUDA; gradient_norm.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

// Doubles that `partial` holds.
int64_t SumOfSquaresPartials(int64_t n);
cudaError_t LaunchSumOfSquares(const CudaLaunch& on, int64_t n, const float* x, double* partial,
                               double* out);
cudaError_t LaunchClipFactor(const CudaLaunch& on, const double* sum_of_squares, double max_norm,
                             float* clip);

}  // namespace weft::kernels::internal
