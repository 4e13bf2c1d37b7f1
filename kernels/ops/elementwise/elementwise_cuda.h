// Launchers of elementwise on CUDA; elementwise.h says what they compute. For op code only.
#pragma once

#include "kernels/device/cuda/launch.h"

namespace weft::kernels::internal {

// `value` in elements of 2 bytes (bf16) or 4 (f32, i32), as their bits.
cudaError_t LaunchFill(const CudaLaunch& on, int64_t n, int bytes, uint32_t bits, void* x);
// From f32 to bf16, or the other way.
cudaError_t LaunchNarrow(const CudaLaunch& on, int64_t n, const float* from, void* to);
cudaError_t LaunchWiden(const CudaLaunch& on, int64_t n, const void* from, float* to);
cudaError_t LaunchAdd(const CudaLaunch& on, bool bf16, int64_t n, const void* a, const void* b,
                      void* out);

}  // namespace weft::kernels::internal
