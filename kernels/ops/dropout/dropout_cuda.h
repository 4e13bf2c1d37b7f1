// Launchers of dropout on CUDA; dropout.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

struct DropoutPlace {
  uint64_t seed = 0;
  uint32_t counter2 = 0;  // of row 0: sample | layer << 20; rows count up
  uint32_t counter3 = 0;  // step | tag << 28
  uint32_t first_position = 0;
  uint32_t first_ordinal = 0;  // site << 20
  uint32_t least_kept = 0;
  float scale = 1;  // 1 / (1 - p)
};
cudaError_t LaunchDropout(const CudaLaunch& on, const DropoutPlace& place, int64_t batch,
                          int64_t tokens, int64_t channels, const void* x, void* y);

}  // namespace weft::kernels::internal
