// Launchers of sinusoids on CUDA; sinusoids.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

struct SinusoidPlace {
  bool interleaved = true;
  int64_t first_position = 0, first_column = 0, columns = 0;
};
cudaError_t LaunchSinusoids(const CudaLaunch& on, const SinusoidPlace& place, int64_t rows,
                            int64_t width, void* table);

}  // namespace weft::kernels::internal
