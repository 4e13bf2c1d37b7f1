// Elements of the compute types in registers: conversion, and loads and stores of several at once.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/device/cuda/launch.h"

namespace weft::kernels {

using bf16 = __nv_bfloat16;

// Elements of T in one access of 16 bytes, the widest there is.
template <typename T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// What V elements of T are read and written as: 16 bytes at a time, or 8 when they are no more.
template <int V, typename T>
using AccessOf = std::conditional_t<V * sizeof(T) == 8, uint2, uint4>;

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(bf16 value) { return __bfloat162float(value); }

// Rounds to nearest, ties to even.
template <typename T>
__device__ inline T FromFloat(float value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return __float2bfloat16_rn(value);
  }
}

// V elements from `at`, which is aligned to as many (or to 16 bytes) unless V is 1.
template <int V, typename T>
__device__ inline void Load(const T* at, float (&values)[V]) {
  if constexpr (V == 1) {
    values[0] = ToFloat(*at);
  } else {
    using Access = AccessOf<V, T>;
    constexpr int kWidth = sizeof(Access) / sizeof(T);
    static_assert(V % kWidth == 0);
#pragma unroll
    for (int i = 0; i < V / kWidth; ++i) {
      alignas(16) T part[kWidth];
      *reinterpret_cast<Access*>(part) = reinterpret_cast<const Access*>(at)[i];
#pragma unroll
      for (int j = 0; j < kWidth; ++j) values[i * kWidth + j] = ToFloat(part[j]);
    }
  }
}

template <int V, typename T>
__device__ inline void Store(T* at, const float (&values)[V]) {
  if constexpr (V == 1) {
    *at = FromFloat<T>(values[0]);
  } else {
    using Access = AccessOf<V, T>;
    constexpr int kWidth = sizeof(Access) / sizeof(T);
    static_assert(V % kWidth == 0);
#pragma unroll
    for (int i = 0; i < V / kWidth; ++i) {
      alignas(16) T part[kWidth];
#pragma unroll
      for (int j = 0; j < kWidth; ++j) part[j] = FromFloat<T>(values[i * kWidth + j]);
      reinterpret_cast<Access*>(at)[i] = *reinterpret_cast<const Access*>(part);
    }
  }
}

// Calls f.template operator()<T>() for the compute type of the device.
template <typename F>
cudaError_t ForComputeType(const CudaLaunch& on, const F& f) {
  return on.bf16 ? f.template operator()<bf16>() : f.template operator()<float>();
}

inline bool IsAligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

constexpr int64_t CeilDiv(int64_t total, int64_t part) { return (total + part - 1) / part; }

}  // namespace weft::kernels
