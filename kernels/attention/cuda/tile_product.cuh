// Products of 64 x 64 tiles in plain fp32 arithmetic, for attention kernels that run on every GPU:
// a block of 256 threads, operands read from device memory through slabs of shared memory. Sums are
// added in the order of the depth, whatever the GPU.
#pragma once

#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels {

inline constexpr int kTile = 64;
inline constexpr int kTileThreads = 256;
inline constexpr int kSlab = 16;          // of the depth, in shared memory at a time
inline constexpr int kPitch = kTile + 4;  // floats of a row of shared memory

// An operand: element (r, d) is at[r * row_stride + d * depth_stride], times weights[d] when there
// are any; zero outside of rows x depth.
template <typename T>
struct Panel {
  const T* at = nullptr;
  int64_t row_stride = 0;
  int64_t depth_stride = 0;
  int rows = 0;
  int depth = 0;
  const float* weights = nullptr;
};

struct Slabs {
  float a[kSlab][kPitch];
  float b[kSlab][kPitch];
};

// The threads' parts of a tile: rows 4 (thread / 16) ... + 3, columns 4 (thread % 16) ... + 3.
__device__ inline int TileRow() { return static_cast<int>(threadIdx.x) / 16 * 4; }
__device__ inline int TileColumn() { return static_cast<int>(threadIdx.x) % 16 * 4; }

template <typename T>
__device__ inline void LoadSlab(const Panel<T>& panel, int first, float (&slab)[kSlab][kPitch]) {
#pragma unroll
  for (int i = 0; i < kTile * kSlab / kTileThreads; ++i) {
    const int e = static_cast<int>(threadIdx.x) + i * kTileThreads;
    // Neighbouring threads read neighbouring elements.
    const bool along = panel.depth_stride == 1;
    const int r = along ? e / kSlab : e % kTile;
    const int d = along ? e % kSlab : e / kTile;
    float value = 0;
    if (r < panel.rows && first + d < panel.depth) {
      value = ToFloat(panel.at[r * panel.row_stride + (first + d) * panel.depth_stride]);
      if (panel.weights != nullptr) value *= panel.weights[first + d];
    }
    slab[d][r] = value;
  }
}

__device__ inline void MultiplyAdd(float (&sums)[4][4], const float* a, const float* b) {
  const float4 x = *reinterpret_cast<const float4*>(a);
  const float4 y = *reinterpret_cast<const float4*>(b);
  const float left[4] = {x.x, x.y, x.z, x.w};
  const float right[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] += left[i] * right[j];
  }
}

// sums += A B^T over the depth of A. All threads of the block call it.
template <typename A, typename B>
__device__ inline void TileProduct(float (&sums)[4][4], const Panel<A>& a, const Panel<B>& b,
                                   Slabs& slabs) {
  for (int first = 0; first < a.depth; first += kSlab) {
    __syncthreads();
    LoadSlab(a, first, slabs.a);
    LoadSlab(b, first, slabs.b);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kSlab; ++d) {
      MultiplyAdd(sums, &slabs.a[d][TileRow()], &slabs.b[d][TileColumn()]);
    }
  }
}

// The same with A in shared memory, transposed: element (r, d) is a[d][r].
using TransposedTile = float[kTile][kPitch];
template <typename B>
__device__ inline void TileProduct(float (&sums)[4][4], const TransposedTile& a, const Panel<B>& b,
                                   Slabs& slabs) {
  for (int first = 0; first < b.depth; first += kSlab) {
    __syncthreads();
    LoadSlab(b, first, slabs.b);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kSlab; ++d) {
      MultiplyAdd(sums, &a[first + d][TileRow()], &slabs.b[d][TileColumn()]);
    }
  }
}

}  // namespace weft::kernels
