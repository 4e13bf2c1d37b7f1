// Launchers of linear_cross_entropy on CUDA; linear_cross_entropy.h says what they compute. For op
// code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

struct SoftmaxRows {
  int64_t rows = 0;
  int64_t classes = 0;
  int64_t stride = 0;  // elements from row to row of the logits, a multiple of 16 bytes
  const int32_t* targets = nullptr;
  int64_t first_row = 0;  // of these rows in the call, for bad_index
  int32_t* bad_index = nullptr;
};
// Losses and predictions of some rows of logits. With `slopes`, the logits become gradient_scale *
// (softmax - one at the target). What lies between the rows is lost.
cudaError_t LaunchSoftmaxRows(const CudaLaunch& on, const SoftmaxRows& shape, bool slopes,
                              float gradient_scale, void* logits, float* losses, float* right);

// Floats that `partial` holds, and dbias[classes] += the sums of the rows of the slopes.
int64_t SlopeSumPartials(int64_t rows, int64_t classes);
cudaError_t LaunchSlopeSums(const CudaLaunch& on, int64_t rows, int64_t classes, int64_t stride,
                            const void* slopes, float* dbias, float* partial);

}  // namespace weft::kernels::internal
