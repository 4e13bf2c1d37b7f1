// What the kernels of the delta rule on Hopper share.
#pragma once

#include "kernels/attention/cuda/tiles_sm90.cuh"
#include "kernels/attention/delta/cuda/chunk_record.h"

namespace weft::kernels::sm90 {

static_assert(kTileBytes == kSquareBytes);

// With so few blocks in a serial pass, it waits for the latency of memory, not for its rate, and
// brings chunks into the L2 cache before their turn.
inline constexpr int kFewBlocks = 64;
inline constexpr int kChunksAhead = 6;

// d += sign * A B^T: A [64, 16 kSteps] in registers, B [64, 16 kSteps] in tiles; of K the steps
// kFirst ... kEnd - 1.
template <int kSteps, int kSign = 1, int kFirst = 0, int kEnd = kSteps>
__device__ inline void MultiplyRows(float (&d)[32], const uint32_t (&a)[kSteps][4],
                                    hopper::Tiles tiles, bool keep = true) {
#pragma unroll
  for (int s = kFirst; s < kEnd; ++s) {
    hopper::Multiply<Rows::kAreMN, kSign>(d, a[s], RowsTiles(tiles, s), keep || s > 0);
  }
}
// d += sign * A B: A [64, 64] in registers, B [64, N] in tiles side by side; of K the steps kFirst
// ... kEnd - 1.
template <int kSign = 1, int kFirst = 0, int kEnd = 4, int kCount>
__device__ inline void MultiplyColumns(float (&d)[kCount], const uint32_t (&a)[4][4],
                                       hopper::Tiles tiles, bool keep = true) {
#pragma unroll
  for (int s = kFirst; s < kEnd; ++s) {
    hopper::Multiply<Rows::kAreK, kSign>(d, a[s], hopper::ColumnsTile(tiles, s), keep || s > 0);
  }
}
// d += A B^T: both [64, 16 kSteps] in tiles side by side.
template <int kSteps>
__device__ inline void MultiplyTiles(float (&d)[32], hopper::Tiles a, hopper::Tiles b) {
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

// A^T of a tile, as an operand.
__device__ inline void LoadOperand(uint32_t (&a)[4][4], const uint8_t* tile) {
#pragma unroll
  for (int s = 0; s < 4; ++s) hopper::LoadTransposed(a[s], tile, 16 * s);
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
