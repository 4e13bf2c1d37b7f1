// Launchers of adamw on CUDA; adamw.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cpu/vector/vector_table.h"
#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

// `rounded` may be null.
cudaError_t LaunchAdamW(const CudaLaunch& on, const AdamWFactors& factors, int64_t n,
                        const float* gradient, const float* clip, float* parameter, float* m,
                        float* v, void* rounded);

}  // namespace weft::kernels::internal
