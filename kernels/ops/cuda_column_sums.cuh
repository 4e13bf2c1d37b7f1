// Sums over the rows of a matrix that are the same for every run: rows are cut into at most
// kRowParts parts, one block sums a part, and a second kernel adds the parts in their order. For op
// code only.
#pragma once

#include <algorithm>

#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels {

// Parts of the rows. A constant, so that bits do not depend on the size of the GPU: two blocks for
// each of 132 multiprocessors.
inline constexpr int64_t kRowParts = 264;

// Where the sums of up to three matrices go, in the order of their parts.
struct PartSums {
  float* of[3] = {};
};

// sums[C] += partial[0][C] + partial[1][C] + ... in this order; with further rows of blocks, each
// next `parts` parts are added to the next sums likewise.
static __global__ void __launch_bounds__(1024)
    AddPartsKernel(int64_t parts, int64_t columns, const float* partial, PartSums all_sums) {
  // 32 warps take turns over the parts of 32 neighbouring columns and are added in their order.
  __shared__ float of_warp[32][32];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int64_t column = int64_t{blockIdx.x} * 32 + lane;
  partial += blockIdx.y * parts * columns;
  float* const sums = all_sums.of[blockIdx.y];
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (int64_t part = warp; part < parts; part += 32) sum += partial[part * columns + column];
  }
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= columns) return;
  for (int other = 1; other < 32; ++other) sum += of_warp[other][lane];
  sums[column] += sum;
}

// `second` and `third` may be null: then there are no parts for them.
inline cudaError_t AddParts(const CudaLaunch& on, int64_t parts, int64_t columns,
                            const float* partial, float* sums, float* second = nullptr,
                            float* third = nullptr) {
  if (columns == 0) return cudaSuccess;
  PartSums all;
  unsigned count = 0;
  for (float* const each : {sums, second, third}) {
    if (each != nullptr) all.of[count++] = each;
  }
  const dim3 grid(static_cast<unsigned>(CeilDiv(columns, 32)), count);
  AddPartsKernel<<<grid, 1024, 0, on.stream>>>(parts, columns, partial, all);
  return cudaGetLastError();
}

}  // namespace weft::kernels
