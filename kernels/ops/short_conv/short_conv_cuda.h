// Launchers of short_conv on CUDA; short_conv.h says what they compute. For op code only.
#pragma once

#include "kernels/ops/cuda_conv_shape.h"

namespace weft::kernels::internal {

// `history` may be null.
cudaError_t LaunchShortConvForward(const CudaLaunch& on, const ConvShape& shape, const void* x,
                                   const void* w, const void* history, void* y);

// `history` and `d_history` may be null; `partial` holds ConvPartials floats.
cudaError_t LaunchShortConvBackward(const CudaLaunch& on, const ConvShape& shape, const void* x,
                                    const void* w, const void* history, const void* dy, void* dx,
                                    void* d_history, float* dw, float* partial);

}  // namespace weft::kernels::internal
