// Launchers of conv_norm on CUDA; conv_norm.h says what they compute. For op code only.
#pragma once

#include "kernels/ops/cuda_conv_shape.h"

namespace weft::kernels::internal {

// Whether the launchers take heads of `width` channels, given operands on 16-byte boundaries.
bool ConvNormIsFused(const ConvShape& shape, int64_t width);

// `history` may be null.
cudaError_t LaunchConvNormForward(const CudaLaunch& on, const ConvShape& shape, int64_t width,
                                  const ConvHeadNorm& norm, const void* x, const void* w,
                                  const void* history, void* y);

// `history` and `d_history` may be null; `partial` holds ConvPartials floats.
cudaError_t LaunchConvNormBackward(const CudaLaunch& on, const ConvShape& shape, int64_t width,
                                   const ConvHeadNorm& norm, const void* x, const void* w,
                                   const void* history, const void* dy, void* dx, void* d_history,
                                   float* dw, float* partial);

}  // namespace weft::kernels::internal
