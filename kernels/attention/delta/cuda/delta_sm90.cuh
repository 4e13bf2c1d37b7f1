// What the kernels of the delta rule on Hopper share.
#pragma once

#include "kernels/attention/delta/cuda/chunk_record.h"
#include "kernels/device/cuda/hopper.cuh"

namespace weft::kernels::sm90 {

using hopper::Rows;

inline constexpr int kTileBytes = hopper::TileBytes(64);  // 64 tokens x 64 columns
static_assert(kTileBytes == kSquareBytes);

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

template <int kWidth>
__device__ inline void PrefetchTiles(const CUtensorMap& map, int head, int token, int batch) {
#pragma unroll
  for (int i = 0; i < kWidth / 64; ++i) hopper::PrefetchBox(map, 64 * i, head, token, batch);
}

// Chunks that the serial passes bring into the L2 cache before their turn, when so few blocks run
// that the latency of memory, not its rate, is what they would wait for.
__host__ inline int ChunksAhead(int blocks) { return blocks <= 64 ? 6 : 0; }

// Step `step` of K, of tiles side by side whose columns are K.
__device__ inline uint64_t RowsTiles(const uint8_t* tiles, int step) {
  return hopper::RowsTile(tiles + step / 4 * kTileBytes, step % 4);
}

// d += sign * A B^T: A [64, kWidth] in registers, B [64, kWidth] in tiles.
template <int kSteps, int kSign = 1>
__device__ inline void MultiplyRows(float (&d)[32], const uint32_t (&a)[kSteps][4],
                                    const uint8_t* tiles, bool keep = true) {
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    hopper::Multiply<Rows::kAreMN, kSign>(d, a[s], RowsTiles(tiles, s), keep || s > 0);
  }
}
// d += sign * A B: A [64, 64] in registers, B [64, N] in tiles side by side.
template <int kSign = 1, int kCount>
__device__ inline void MultiplyColumns(float (&d)[kCount], const uint32_t (&a)[4][4],
                                       const uint8_t* tiles, bool keep = true) {
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    hopper::Multiply<Rows::kAreK, kSign>(d, a[s], hopper::ColumnsTile(tiles, s), keep || s > 0);
  }
}
// d += A B^T: both [64, 16 kSteps] in tiles side by side.
template <int kSteps>
__device__ inline void MultiplyTiles(float (&d)[32], const uint8_t* a, const uint8_t* b) {
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    hopper::Multiply<Rows::kAreMN, Rows::kAreMN>(d, RowsTiles(a, s), RowsTiles(b, s), s > 0);
  }
}

// d[4j + {0, 1}] and d[4j + {2, 3}] times the factors of their columns: x <- factor x.
__device__ inline void ScaleColumns(float (&x)[32], const float* factors, const Place& at) {
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float2 f = *reinterpret_cast<const float2*>(factors + 8 * j + at.column);
    x[4 * j] *= f.x;
    x[4 * j + 1] *= f.y;
    x[4 * j + 2] *= f.x;
    x[4 * j + 3] *= f.y;
  }
}
// An operand whose columns are scaled, rounded once more.
__device__ inline void ScaledOperand(uint32_t (&to)[4][4], const uint32_t (&from)[4][4],
                                     const float* factors, const Place& at) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const float2 f = *reinterpret_cast<const float2*>(factors + 8 * (i / 2) + at.column);
    const uint32_t pair = from[i / 4][i % 4];
    to[i / 4][i % 4] = hopper::PackPair(hopper::LowOf(pair) * f.x, hopper::HighOf(pair) * f.y);
  }
}

// The transposed state of one warpgroup: 64 values x kKey, of S [Dk, Dv] in memory.
template <int kKey>
__device__ inline void LoadState(float (&s)[kKey / 2], const float* state, int value_dim,
                                 const Place& at) {
#pragma unroll
  for (int i = 0; i < kKey / 2; ++i) {
    const int key = i / 4 * 8 + at.column + i % 2;
    const int value = at.row + i % 4 / 2 * 8;
    s[i] = state == nullptr ? 0.0F : state[key * value_dim + value];
  }
}
template <int kKey>
__device__ inline void StoreState(const float (&s)[kKey / 2], float* state, int value_dim,
                                  const Place& at) {
  if (state == nullptr) return;
#pragma unroll
  for (int i = 0; i < kKey / 2; ++i) {
    const int key = i / 4 * 8 + at.column + i % 2;
    const int value = at.row + i % 4 / 2 * 8;
    state[key * value_dim + value] = s[i];
  }
}

}  // namespace weft::kernels::sm90
