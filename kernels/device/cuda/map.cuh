// Elementwise kernels: results from up to three arrays, element by element, whatever their types.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels {

struct Nothing {};  // the element type of an array that a map does not have

namespace map_internal {

constexpr int kThreads = 256;

template <int V, typename T>
__device__ inline void LoadIf(const T* at, int64_t i, float (&values)[V]) {
  if constexpr (!std::is_same_v<T, Nothing>) Load<V>(at + i, values);
}
template <int V, typename T>
__device__ inline void StoreIf(T* at, int64_t i, const float (&values)[V]) {
  if constexpr (!std::is_same_v<T, Nothing>) Store<V>(at + i, values);
}

// f(a0, a1, a2, b0, b1) of elements i ... i + V - 1. All are read before one is written: results
// may lie where operands do.
template <int V, typename F, typename A0, typename A1, typename A2, typename B0, typename B1>
__device__ inline void MapAt(int64_t i, const F& f, const A0* a0, const A1* a1, const A2* a2,
                             B0* b0, B1* b1) {
  float x0[V] = {}, x1[V] = {}, x2[V] = {}, y0[V] = {}, y1[V] = {};
  LoadIf<V>(a0, i, x0);
  LoadIf<V>(a1, i, x1);
  LoadIf<V>(a2, i, x2);
#pragma unroll
  for (int j = 0; j < V; ++j) f(x0[j], x1[j], x2[j], y0[j], y1[j]);
  StoreIf<V>(b0, i, y0);
  StoreIf<V>(b1, i, y1);
}

template <int V, typename F, typename A0, typename A1, typename A2, typename B0, typename B1>
__global__ void __launch_bounds__(kThreads)
    MapKernel(int64_t n, F f, const A0* a0, const A1* a1, const A2* a2, B0* b0, B1* b1) {
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (first + V <= n) {
    MapAt<V>(first, f, a0, a1, a2, b0, b1);
  } else {
    for (int64_t i = first; i < n; ++i) MapAt<1>(i, f, a0, a1, a2, b0, b1);
  }
}

}  // namespace map_internal

// For every i below n: f(a0[i], a1[i], a2[i], b0[i], b1[i]), the operands as floats, the results as
// references to floats. Arrays of Nothing are null.
template <typename F, typename A0, typename A1, typename A2, typename B0, typename B1>
cudaError_t Map(const CudaLaunch& on, int64_t n, const F& f, const A0* a0, const A1* a1,
                const A2* a2, B0* b0, B1* b1) {
  using map_internal::kThreads;
  if (n == 0) return cudaSuccess;
  constexpr int kWidth = 8;  // 16 bytes of the smallest type
  const bool aligned =
      IsAligned(a0) && IsAligned(a1) && IsAligned(a2) && IsAligned(b0) && IsAligned(b1);
  const auto launch = [&]<int V>() {
    const auto blocks = static_cast<unsigned>(CeilDiv(n, int64_t{kThreads} * V));
    map_internal::MapKernel<V><<<blocks, kThreads, 0, on.stream>>>(n, f, a0, a1, a2, b0, b1);
    return cudaGetLastError();
  };
  return aligned ? launch.template operator()<kWidth>() : launch.template operator()<1>();
}

template <typename F, typename A, typename B>
cudaError_t Map1(const CudaLaunch& on, int64_t n, const F& f, const A* a, B* b) {
  return Map(on, n, f, a, static_cast<const Nothing*>(nullptr),
             static_cast<const Nothing*>(nullptr), b, static_cast<Nothing*>(nullptr));
}

template <typename F, typename A0, typename A1, typename B>
cudaError_t Map2(const CudaLaunch& on, int64_t n, const F& f, const A0* a0, const A1* a1, B* b) {
  return Map(on, n, f, a0, a1, static_cast<const Nothing*>(nullptr), b,
             static_cast<Nothing*>(nullptr));
}

}  // namespace weft::kernels
