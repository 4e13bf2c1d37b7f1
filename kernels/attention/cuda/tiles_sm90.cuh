// What attention kernels on Hopper have in common: shared memory as tiles of 64 tokens x 64
// columns, and where accumulators lie. Private to kernels/attention.
#pragma once

#include "kernels/device/cuda/hopper.cuh"
#include "kernels/device/cuda/launch_shared.cuh"

namespace weft::kernels::sm90 {

using hopper::Rows;

inline constexpr int kTileBytes = hopper::TileBytes(64);  // 64 tokens x 64 columns

// The next multiple of 1024 bytes in dynamic shared memory; ask for kSharedSlack more.
inline constexpr int kSharedSlack = 1024;
__device__ inline uint8_t* AlignedShared(uint8_t* raw) {
  return raw + (1024 - hopper::SharedAddress(raw) % 1024) % 1024;
}

// Where a thread's accumulators of a 64 x N product lie.
struct Place {
  int row;     // and row + 8
  int column;  // 8 j + column, and the next
  __device__ Place()
      : row((threadIdx.x / 32) % 4 * 16 + (threadIdx.x % 32) / 4), column(threadIdx.x % 4 * 2) {}
};

// Loads the tiles of 64 tokens of one head, `kWidth` columns wide.
template <int kWidth>
__device__ inline void LoadTiles(const CUtensorMap& map, uint8_t* to, uint64_t* barrier, int head,
                                 int token, int batch) {
#pragma unroll
  for (int i = 0; i < kWidth / 64; ++i) {
    hopper::LoadBox(map, to + i * kTileBytes, barrier, 64 * i, head, token, batch);
  }
}

// The same, only as far as the L2 cache.
template <int kWidth>
__device__ inline void PrefetchTiles(const CUtensorMap& map, int head, int token, int batch) {
#pragma unroll
  for (int i = 0; i < kWidth / 64; ++i) hopper::PrefetchBox(map, 64 * i, head, token, batch);
}

// Step `step` of K, of tiles side by side whose columns are K.
__device__ inline uint64_t RowsTiles(const uint8_t* tiles, int step) {
  return hopper::RowsTile(tiles + step / 4 * kTileBytes, step % 4);
}
__device__ inline uint64_t RowsTiles(hopper::Tiles tiles, int step) {
  return hopper::RowsTile(tiles + step / 4 * kTileBytes, step % 4);
}

}  // namespace weft::kernels::sm90
