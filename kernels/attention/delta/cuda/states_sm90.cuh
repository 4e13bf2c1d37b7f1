// What the kernels of the pass `states` share.
#pragma once

#include "kernels/attention/delta/cuda/delta_passes_sm90.h"
#include "kernels/attention/delta/cuda/delta_sm90.cuh"

namespace weft::kernels::sm90 {

struct StatesParams {
  DeltaBackwardMaps maps;
  DeltaChunkStates scratch;
  const uint8_t* records;
  const float* saved_state;
  const float* d_final_state;
  float* d_initial_state;
  int heads;
  int chunks;
  int value_dim;
};

// The pass for so few heads that most of the machine would idle: split_states_sm90.cu.
cudaError_t LaunchSplitStates(const DeltaCudaShape& shape, const StatesParams& params,
                              cudaStream_t stream);

// Where block `block` works: `groups` of them share a head, each takes `slices`.
struct StatesWork {
  __device__ StatesWork(int block, int heads, int groups, int slices)
      : head(block / groups % heads),
        batch(block / groups / heads),
        first_slice(block % groups * slices) {}
  int head;
  int batch;
  int first_slice;
};

// Lanes that differ in bit 2 kWidth share out v[0 ... 2 kWidth): each keeps the sums of one half.
template <int kWidth>
__device__ inline void ShareSums(float (&v)[16]) {
  const bool upper = (threadIdx.x & (2 * kWidth)) != 0;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float sent = upper ? v[i] : v[i + kWidth];
    const float kept = upper ? v[i + kWidth] : v[i];
    v[i] = kept + __shfl_xor_sync(0xffffffffU, sent, 2 * kWidth);
  }
}

// sums[warp][token] = sum over this warp's 16 rows of y e, for 64 tokens.
__device__ inline void SumOverValues(const float (&y)[32], const uint32_t (&e)[4][4], float* sums) {
  float v[16];
#pragma unroll
  for (int j = 0; j < 8; ++j) {  // tokens 8 j + column and the next
    const uint32_t upper = e[j / 2][j % 2 * 2];
    const uint32_t lower = e[j / 2][j % 2 * 2 + 1];
    v[2 * j] = y[4 * j] * hopper::LowOf(upper) + y[4 * j + 2] * hopper::LowOf(lower);
    v[2 * j + 1] = y[4 * j + 1] * hopper::HighOf(upper) + y[4 * j + 3] * hopper::HighOf(lower);
  }
  // The lanes of a column are those that differ in bits 2, 3 and 4: lane l is left with tokens 2l
  // and 2l + 1.
  ShareSums<8>(v);
  ShareSums<4>(v);
  ShareSums<2>(v);
  *reinterpret_cast<float2*>(sums + (threadIdx.x / 32) % 4 * 64 + 2 * (threadIdx.x % 32)) =
      make_float2(v[0], v[1]);
}

// The 64 x kKey state of the warpgroup as the tiles that `gradients` reads.
template <int kSteps>
__device__ inline void StoreTiles(uint8_t* tiles, const uint32_t (&a)[kSteps][4]) {
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    hopper::StorePlain(tiles + s / 4 * kTileBytes, s % 4 * 16, a[s]);
  }
}

}  // namespace weft::kernels::sm90
