// What the portable passes of softmax attention share: the sizes of their tiles, rows on their way
// to shared memory, and the weights' dropout.
//
// A block has 16 rows of its result for each warp; the other side passes by in tiles.
#pragma once

#include "kernels/attention/cuda/tile_mma.cuh"
#include "kernels/attention/softmax/cuda/visible_pairs.cuh"
#include "kernels/device/cuda/async_copy.cuh"
#include "kernels/random/philox.cuh"

namespace weft::kernels::softmax_tiles {

// Sizes by which three (forward) or four operands fit into the 99 KiB of shared memory that a block
// has on the smallest GPUs.
template <typename T, int kWidth>
struct ForwardTiles {
  static constexpr int kBytesOfRow = kWidth * static_cast<int>(sizeof(T));
  static constexpr int kRows = kBytesOfRow > 512 ? 32 : 64;
  static constexpr int kKeys = kBytesOfRow > 256 ? 32 : 64;
};
template <typename T, int kWidth>
struct BackwardTiles {
  static constexpr int kBytesOfRow = kWidth * static_cast<int>(sizeof(T));
  static constexpr int kRows = kBytesOfRow > 512 ? 16 : kBytesOfRow > 256 ? 32 : 64;
  static constexpr int kTile = kBytesOfRow > 512 ? 16 : kBytesOfRow > 256 ? 32 : 64;
};

// to[kRows, kWidth] = rows first ... of one head of a [B, n, heads, head_dim] tensor; zeros where
// there is nothing. All threads of the block; arrived after AwaitCopies and a barrier.
template <int kRows, int kWidth, int kThreads, typename T>
__device__ inline void CopyRows(const void* tensor, int n, int heads, int batch, int head,
                                int head_dim, bool vectors, int first, T* to) {
  constexpr int V = kVector<T>;
  constexpr int kPieces = kWidth / V;
  constexpr int kStride = tiles::StrideOf<T>(kWidth);
  const int64_t step = int64_t{heads} * head_dim;
  const T* const from =
      static_cast<const T*>(tensor) + int64_t{batch} * n * step + int64_t{head} * head_dim;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces;
    const int column = i % kPieces * V;
    T* const at = to + row * kStride + column;
    const bool there = first + row < n && column < head_dim;
    if (vectors) {
      CopyAsync<16>(at, from + (there ? (first + row) * step + column : 0), there);
    } else {
#pragma unroll
      for (int e = 0; e < V; ++e) {
        at[e] = there && column + e < head_dim ? from[(first + row) * step + column + e]
                                               : FromFloat<T>(0);
      }
    }
  }
}

// Rows of a result: from a warp's accumulators times `factor`.
template <int N, typename T>
__device__ inline void StoreRows(const float (&d)[N][4], float factor_low, float factor_high,
                                 void* tensor, int n, int heads, int batch, int head, int head_dim,
                                 int first_row, int first_column) {
  const int64_t step = int64_t{heads} * head_dim;
  T* const to = static_cast<T*>(tensor) + int64_t{batch} * n * step + int64_t{head} * head_dim;
  tiles::ForAccumulators(d, [&](int row, int column, float value) {
    if (first_row + row < n && first_column + column < head_dim) {
      to[(first_row + row) * step + first_column + column] =
          FromFloat<T>(value * (row < 8 ? factor_low : factor_high));
    }
  });
}

// What dropout multiplies the weights of two neighbouring keys by; `key` is even, `head` of [B, H].
__device__ inline float2 DropoutOfKeys(const DropoutPlace& place, int head, int query, int key) {
  const uint4 words =
      Philox4x32(make_uint4(static_cast<uint32_t>(query), static_cast<uint32_t>(key) / 4,
                            place.counter2 + static_cast<uint32_t>(head), place.counter3),
                 place.seed);
  const uint32_t first = key % 4 == 0 ? words.x : words.z;
  const uint32_t second = key % 4 == 0 ? words.y : words.w;
  return {first < place.threshold ? 0.0F : place.factor,
          second < place.threshold ? 0.0F : place.factor};
}

// Launches kernel<T, width> with enough threads and memory: f.template operator()<T, kWidth>().
template <typename F>
cudaError_t ForTypeAndWidth(const CudaLaunch& on, int head_dim, const F& f) {
  return ForComputeType(on, [&]<typename T>() {
    if (head_dim <= 64) return f.template operator()<T, 64>();
    if (head_dim <= 128) return f.template operator()<T, 128>();
    return f.template operator()<T, 256>();
  });
}

}  // namespace weft::kernels::softmax_tiles
