// Launchers of short_conv on CUDA; short_conv.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

struct ShortConvShape {
  int64_t batch = 0, tokens = 0, channels = 0;
  int taps = 0;
};
// `history` may be null.
cudaError_t LaunchShortConvForward(const CudaLaunch& on, const ShortConvShape& shape, const void* x,
                                   const void* w, const void* history, void* y);

// Floats that `partial` holds.
int64_t ShortConvPartials(const ShortConvShape& shape);
// `history` and `d_history` may be null.
cudaError_t LaunchShortConvBackward(const CudaLaunch& on, const ShortConvShape& shape,
                                    const void* x, const void* w, const void* history,
                                    const void* dy, void* dx, void* d_history, float* dw,
                                    float* partial);

}  // namespace weft::kernels::internal
