// Launchers of adamw on CUDA; adamw.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

struct AdamWFactorsCuda {
  float beta1, beta2, one_minus_beta1, one_minus_beta2;
  float step_size;                // learning rate / (1 - beta1^t)
  float inverse_sqrt_correction;  // 1 / sqrt(1 - beta2^t)
  float epsilon;
  float decay;  // 1 - learning rate * weight decay
};
// `rounded` may be null.
cudaError_t LaunchAdamW(const CudaLaunch& on, const AdamWFactorsCuda& factors, int64_t n,
                        const float* gradient, const float* clip, float* parameter, float* m,
                        float* v, void* rounded);

}  // namespace weft::kernels::internal
