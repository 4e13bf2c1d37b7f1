// How kernels about pairs of tokens cut them: a block of threads has 64 rows of one side ("own")
// and walks along rows of the other side, a group of 32 at a time, which may lie anywhere. Four
// warps, each with 16 own rows. The copies of a group go on while the one before it is computed.
#pragma once

#include "kernels/attention/cuda/tile_mma.cuh"
#include "kernels/device/cuda/async_copy.cuh"
#include "kernels/device/cuda/launch_shared.cuh"
#include "kernels/device/cuda/quick_math.cuh"

namespace weft::kernels::tiles {

inline constexpr int kOwn = 64;
inline constexpr int kOthers = 32;
inline constexpr int kPairThreads = 128;
inline constexpr int kColumns = kOthers / 8;  // accumulators' groups of 8 others
inline constexpr int kStages = 2;             // groups whose rows are in shared memory
inline constexpr int kNames = 3;              // groups whose names are
inline constexpr float kLn2 = 0.6931471805599453F;

// Whether rows of `width` elements may be read 16 bytes of T at a time.
template <typename T>
__device__ inline bool InVectors(const void* tensor, int width) {
  return width % kVector<T> == 0 && reinterpret_cast<uintptr_t>(tensor) % 16 == 0;
}

// Calls f.template operator()<W>() for the width of rows of T in shared memory, at least `width`.
// fp32 is there to be compared with: one width is enough.
inline constexpr int kWidestRow = 128;
template <typename T, typename F>
cudaError_t ForWidth(int width, const F& f) {
  if constexpr (sizeof(T) == 2) {
    if (width <= 32) return f.template operator()<32>();
    if (width <= 64) return f.template operator()<64>();
  }
  return f.template operator()<kWidestRow>();
}

// Starts copies of the rows that `index` (in shared memory) names to to[count, kWidth], columns
// `begin` and on; zeros where there is nothing, be it a negative index or a column. All threads of
// the block; arrived after AwaitCopies and a barrier.
template <int kCount, int kWidth, typename T>
__device__ inline void CopyRows(const Rows<T>& from, const int* index, int begin, T* to) {
  constexpr int V = kVector<T>;
  constexpr int kPieces = kWidth / V;
  constexpr int kStride = StrideOf<T>(kWidth);
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kCount * kPieces; i += kPairThreads) {
    const int row = index[i / kPieces];
    const int column = begin + i % kPieces * V;
    T* const at = to + i / kPieces * kStride + i % kPieces * V;
    const T* const source = from.first + row * from.step + column;
    if (from.vectors) {
      const bool there = row >= 0 && column < from.width;
      CopyAsync<16>(at, there ? source : from.first, there);
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v) {
        at[v] = row >= 0 && column + v < from.width ? source[v] : FromFloat<T>(0.0F);
      }
    }
  }
}

// Walks along groups of others: name(g) starts copies of what names group g (to place g % kNames),
// own() those of the block's own rows, copy(g) those of the rows that g's names name (to stage g %
// kStages); begin() follows when the own rows are there, and use(g) when those of group g are. All
// threads of the block. What name and own need in shared memory is there, behind a barrier.
template <typename Name, typename Own, typename Copy, typename Begin, typename Use>
__device__ inline void WalkGroups(int groups, const Name& name, const Own& own, const Copy& copy,
                                  const Begin& begin, const Use& use) {
  if (groups <= 0) return;
  name(0);
  own();
  AwaitCopies();
  __syncthreads();
  copy(0);
  if (groups > 1) name(1);
  begin();
  for (int g = 0; g < groups; ++g) {
    AwaitCopies();
    __syncthreads();
    if (g + 1 < groups) copy(g + 1);
    if (g + 2 < groups) name(g + 2);
    use(g);
  }
}

}  // namespace weft::kernels::tiles
