// Products of 64 x 64 tiles on tensor cores of any GPU since sm_80 (tile_mma.cuh), for attention
// kernels of any shape: a block of 256 threads, operands read from device memory through slabs of
// shared memory, rounded to T, with sums in fp32. T is bf16, or float, whose products are as good
// as fp32 arithmetic. Sums are added in the order of the depth.
#pragma once

#include "kernels/attention/cuda/tile_mma.cuh"

namespace weft::kernels {

inline constexpr int kTile = 64;
inline constexpr int kTileThreads = 256;
inline constexpr int kSlab = 32;  // of the depth, in shared memory at a time

// An operand: element (r, d) is at[r * row_stride + d * depth_stride], times weights[d] when there
// are any; zero outside of rows x depth.
template <typename S>
struct Panel {
  const S* at = nullptr;
  int64_t row_stride = 0;
  int64_t depth_stride = 0;
  int rows = 0;
  int depth = 0;
  const float* weights = nullptr;
};

template <typename T>
struct Slabs {
  static constexpr int kStride = tiles::StrideOf<T>(kSlab);
  alignas(16) T a[kTile * kStride];
  alignas(16) T b[kTile * kStride];
};

// A left operand that the block itself has computed.
template <typename T>
struct SharedTile {
  static constexpr int kStride = tiles::StrideOf<T>(kTile);
  alignas(16) T at[kTile * kStride];
  __device__ void Set(int row, int depth, float value) {
    at[row * kStride + depth] = FromFloat<T>(value);
  }
};

// A thread's sums [n][e] are of rows TileRow() + 8 (e / 2), columns TileColumn() + 8 n + e % 2.
__device__ inline int TileRow() {
  return static_cast<int>(threadIdx.x) / 32 % 4 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
}
__device__ inline int TileColumn() {
  return static_cast<int>(threadIdx.x) / 128 * 32 + static_cast<int>(threadIdx.x) % 4 * 2;
}

// Eight neighbours of an operand, in one or two accesses where they are aligned; zeros from `count`
// on.
template <typename S>
__device__ inline void LoadEight(const S* at, int64_t stride, int count, float (&values)[8]) {
  if (stride == 1 && count >= 8 && reinterpret_cast<uintptr_t>(at) % 16 == 0) {
    return Load<8>(at, values);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = i < count ? ToFloat(at[i * stride]) : 0.0F;
}

// Each thread takes eight elements along the rows or along the depth, as they lie side by side.
template <typename T, typename S>
__device__ inline void LoadSlab(const Panel<S>& panel, int first, T* slab) {
  constexpr int kStride = Slabs<T>::kStride;
  const auto thread = static_cast<int>(threadIdx.x);
  float values[8] = {};
  if (panel.depth_stride == 1) {
    const int r = thread / (kSlab / 8);
    const int d = thread % (kSlab / 8) * 8;
    const int count = r < panel.rows ? panel.depth - first - d : 0;
    if (count > 0) LoadEight(panel.at + r * panel.row_stride + first + d, 1, count, values);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (panel.weights != nullptr && i < count) values[i] *= panel.weights[first + d + i];
      slab[r * kStride + d + i] = FromFloat<T>(values[i]);
    }
    return;
  }
  const int r = thread % (kTile / 8) * 8;
  const int d = thread / (kTile / 8);
  const int count = first + d < panel.depth ? panel.rows - r : 0;
  if (count > 0) {
    LoadEight(panel.at + r * panel.row_stride + (first + d) * panel.depth_stride, panel.row_stride,
              count, values);
  }
  const float weight = panel.weights != nullptr && count > 0 ? panel.weights[first + d] : 1.0F;
#pragma unroll
  for (int i = 0; i < 8; ++i) slab[(r + i) * kStride + d] = FromFloat<T>(weight * values[i]);
}

// sums += a b^T over a slab.
template <typename T>
__device__ inline void MultiplySlab(float (&sums)[4][4], const T* a, int a_stride, const T* b) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  tiles::ProductOfRows<4>(a + warp % 4 * 16 * a_stride, a_stride,
                          b + warp / 4 * 32 * Slabs<T>::kStride, Slabs<T>::kStride, kSlab, sums);
}

// sums += A B^T over the depth of A. All threads of the block call it.
template <typename T, typename A, typename B>
__device__ inline void TileProduct(float (&sums)[4][4], const Panel<A>& a, const Panel<B>& b,
                                   Slabs<T>& slabs) {
  for (int first = 0; first < a.depth; first += kSlab) {
    __syncthreads();
    LoadSlab(a, first, slabs.a);
    LoadSlab(b, first, slabs.b);
    __syncthreads();
    MultiplySlab(sums, slabs.a, Slabs<T>::kStride, slabs.b);
  }
}

// The same with A in shared memory, 64 deep; threads need not have met since they wrote it.
template <typename T, typename B>
__device__ inline void TileProduct(float (&sums)[4][4], const SharedTile<T>& a, const Panel<B>& b,
                                   Slabs<T>& slabs) {
  for (int first = 0; first < kTile; first += kSlab) {
    __syncthreads();
    LoadSlab(b, first, slabs.b);
    __syncthreads();
    MultiplySlab(sums, a.at + first, SharedTile<T>::kStride, slabs.b);
  }
}

}  // namespace weft::kernels
