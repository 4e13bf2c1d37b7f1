// Launchers of embedding on CUDA; embedding.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

// bad_index: see CudaStream::bad_index.
cudaError_t LaunchEmbeddingForward(const CudaLaunch& on, int64_t rows, int64_t vocabulary,
                                   int64_t channels, const int32_t* tokens, const void* table,
                                   void* y, int32_t* bad_index);

// The working space of the backward pass, in bytes from one allocation.
struct EmbeddingSpace {
  int64_t sort_bytes = 0;  // of the sorting library
  int64_t sorted = 0;      // offsets: sorted tokens, then the rows that they come from, i32[R] each
  int64_t rows = 0;
  int64_t order = 0;    // 0, 1, 2, ...: i32[R]
  int64_t partial = 0;  // f32[segments][2][C]
  int64_t bytes = 0;    // of all
};
cudaError_t EmbeddingBackwardSpace(int64_t rows, int64_t channels, EmbeddingSpace* space);
cudaError_t LaunchEmbeddingBackward(const CudaLaunch& on, int64_t rows, int64_t vocabulary,
                                    int64_t channels, const int32_t* tokens, const void* dy,
                                    float* dtable, const EmbeddingSpace& space, void* memory,
                                    int32_t* bad_index);

}  // namespace weft::kernels::internal
