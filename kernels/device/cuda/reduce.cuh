// Sums and maxima over the threads of a warp or a block, in an order that never changes.
#pragma once

#include <cuda_runtime.h>

namespace weft::kernels {

struct AddOf {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct MaxOf {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Over groups of kThreads neighbouring lanes (a power of two up to 32); all lanes get it.
template <int kThreads, typename T, typename Op>
__device__ inline T GroupReduce(T value, Op op) {
#pragma unroll
  for (int distance = kThreads / 2; distance > 0; distance /= 2) {
    value = op(value, __shfl_xor_sync(0xFFFFFFFF, value, distance));
  }
  return value;
}

// Over all kThreads threads of a block (a multiple of 32, at most 1024); all threads get it. Every
// thread calls it; `shared` holds 32 values and may be used again after the next barrier.
template <int kThreads, typename T, typename Op>
__device__ inline T BlockReduce(T value, Op op, T* shared) {
  constexpr int kWarps = kThreads / 32;
  value = GroupReduce<32>(value, op);
  if constexpr (kWarps > 1) {
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    value = shared[0];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) value = op(value, shared[warp]);
    __syncthreads();
  }
  return value;
}

// Over the kThreads threads that share a row: part of a warp, or the whole block.
template <int kThreads, typename T>
__device__ inline T RowSum(T value, T* shared) {
  if constexpr (kThreads <= 32) {
    return GroupReduce<kThreads>(value, AddOf());
  } else {
    return BlockReduce<kThreads>(value, AddOf(), shared);
  }
}

}  // namespace weft::kernels
