// How kernels about pairs of tokens cut them: a block of threads has 64 rows of one side ("own")
// and walks along rows of the other side, 32 at a time, which may lie anywhere. Four warps, each
// with 16 own rows.
#pragma once

#include "kernels/attention/cuda/tile_mma.cuh"
#include "kernels/device/cuda/launch_shared.cuh"

namespace weft::kernels::tiles {

inline constexpr int kOwn = 64;
inline constexpr int kOthers = 32;
inline constexpr int kPairThreads = 128;
inline constexpr int kColumns = kOthers / 8;  // accumulators' groups of 8 others
inline constexpr float kLog2e = 1.4426950408889634F;
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

}  // namespace weft::kernels::tiles
