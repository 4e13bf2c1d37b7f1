// Elements that a thread has loaded but not yet converted: half the registers of floats while they
// are on their way.
#pragma once

#include <cstring>

#include "kernels/device/cuda/vector.cuh"

namespace weft::kernels {

// V elements as they lie in memory, until they are needed.
template <int V, typename T>
struct Packed {
  static constexpr bool kWide = V > 1;
  using Word = std::conditional_t<kWide, AccessOf<V, T>, T>;
  static constexpr int kWords = V * static_cast<int>(sizeof(T)) / static_cast<int>(sizeof(Word));
  Word words[kWords];

  __device__ void Read(const T* at) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) words[i] = reinterpret_cast<const Word*>(at)[i];
  }
  __device__ void Clear() {
#pragma unroll
    for (int i = 0; i < kWords; ++i) words[i] = Word{};
  }
  __device__ void Unpack(float (&out)[V]) const {
    T elements[V];
    memcpy(elements, words, sizeof(elements));
#pragma unroll
    for (int j = 0; j < V; ++j) out[j] = ToFloat(elements[j]);
  }
};

}  // namespace weft::kernels
