// Descriptions of tensors for the copy engine of Hopper (hopper.cuh, LoadBox).
#pragma once

#include <cudaTypedefs.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::kernels {

// A bf16 tensor [batch, tokens, heads, width], contiguous, in boxes of `box_tokens` tokens and 64
// columns of one head (128-byte swizzle). The address is a multiple of 16, the width of 8.
cudaError_t MakeTensorMap(const __nv_bfloat16* data, int64_t batch, int64_t tokens, int64_t heads,
                          int64_t width, int box_tokens, CUtensorMap* map);

}  // namespace weft::kernels
