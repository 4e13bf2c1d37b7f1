// Descriptions, for the copy engine of Hopper, of matrices whose rows change places on their way.
#pragma once

#include <cudaTypedefs.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::kernels {

// A bf16 matrix [rows, width] in boxes of `box_rows` rows, a multiple of 32, and 64 columns
// (128-byte swizzle). Of 32 rows, row 8 q + 2 j + e arrives as row 8 j + 2 q + e (j, q < 4, e < 2).
// Coordinates: column, 0, 0, 0, row / 32. The address is a multiple of 16, the width of 8, the rows
// of 32.
cudaError_t MakeInterleavedMap(const __nv_bfloat16* data, int64_t rows, int64_t width, int box_rows,
                               CUtensorMap* map);

}  // namespace weft::kernels
