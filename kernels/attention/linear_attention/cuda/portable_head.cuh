// The rows of a head as operands of tile products, and what levels do to weights. Private to
// kernels/attention.
#pragma once

#include "kernels/attention/cuda/tile_product.cuh"
#include "kernels/attention/linear_attention/cuda/portable_passes.h"

namespace weft::kernels {

// Levels are differences from it; that of nothing is anything.
__device__ inline float UnitOf(float level) { return level == -INFINITY ? 0.0F : level; }

// exp(difference of two levels); what has the level -infinity does not exist.
__device__ inline float LevelFactor(float level, float unit) {
  return level == unit ? 1.0F : expf(level - UnitOf(unit));
}

// Head `head` of all sequences.
struct LinearHeadPlace {
  __device__ LinearHeadPlace(const LinearCudaShape& of, int64_t head)
      : shape(of),
        row(head * of.tokens),
        token(head / of.heads * of.tokens),
        index(static_cast<int>(head % of.heads)) {}

  // Tokens t ... t + count - 1 as rows, features or values as depth.
  template <typename T>
  __device__ Panel<T> Rows(const T* tensor, int t, int count, int width) const {
    const int64_t stride = int64_t{shape.heads} * width;
    return {.at = tensor + (token + t) * stride + int64_t{index} * width,
            .row_stride = stride,
            .depth_stride = 1,
            .rows = count,
            .depth = width};
  }
  __device__ Panel<float> Features(const float* f, int t, int count) const {
    return Rows(f, t, count, shape.features);
  }
  template <typename T>
  __device__ Panel<T> Values(const T* v, int t, int count) const {
    return Rows(v, t, count, shape.value_dim);
  }

  const LinearCudaShape& shape;
  int64_t row;    // of a [B, H, T] tensor
  int64_t token;  // of all sequences
  int index;      // of the head
};

// Rows and depth change places; rows from `first` on.
template <typename T>
__device__ Panel<T> Transposed(const Panel<T>& panel, int first) {
  return {.at = panel.at + first * panel.depth_stride,
          .row_stride = panel.depth_stride,
          .depth_stride = panel.row_stride,
          .rows = panel.depth - first,
          .depth = panel.rows};
}

template <typename T>
__device__ Panel<T> WithWeights(Panel<T> panel, const float* weights) {
  panel.weights = weights;
  return panel;
}

// body(n, e, row, column) for this thread's sums [n][e] of a tile of rows x columns.
template <typename Body>
__device__ void ForTile(int rows, int columns, const Body& body) {
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = TileRow() + e / 2 * 8;
      const int column = TileColumn() + 8 * n + e % 2;
      if (row < rows && column < columns) body(n, e, row, column);
    }
  }
}

}  // namespace weft::kernels
