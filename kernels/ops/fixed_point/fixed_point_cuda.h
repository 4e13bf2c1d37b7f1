// Launchers of fixed_point on CUDA; fixed_point.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

cudaError_t LaunchBlockExponents(const CudaLaunch& on, int64_t n, bool accumulate, const float* x,
                                 int32_t* exponents);
cudaError_t LaunchQuantize(const CudaLaunch& on, int64_t n, int bits, bool accumulate,
                           const float* x, const int32_t* exponents, int32_t* sum);
cudaError_t LaunchDequantize(const CudaLaunch& on, int64_t n, int bits, const int32_t* sum,
                             const int32_t* exponents, float* x);

}  // namespace weft::kernels::internal
