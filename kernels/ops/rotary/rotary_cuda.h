// Launchers of rotary on CUDA; rotary.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

// Floats that `angles` holds.
int64_t RotaryAngles(int64_t tokens, int64_t width);
// sign 1 turns by the angles, -1 back.
cudaError_t LaunchRotary(const CudaLaunch& on, int64_t batch, int64_t tokens, int64_t heads,
                         int64_t width, double base, int64_t first_position, float sign,
                         const void* x, float* angles, void* y);

}  // namespace weft::kernels::internal
