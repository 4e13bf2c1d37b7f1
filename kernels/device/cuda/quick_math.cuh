// Exponentials and divisions as good as the type T that a result will be rounded to: for bf16 the
// GPU's own, good to about 2^-21.
#pragma once

namespace weft::kernels {

template <typename T>
inline constexpr bool kIsQuick = sizeof(T) < sizeof(float);

inline constexpr float kLog2E = 1.44269504F;

// Without the instructions that care for results below 2^-126.
__device__ inline float QuickExp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ inline float QuickExp(float x) { return QuickExp2(kLog2E * x); }
__device__ inline float QuickInverse(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

template <typename T>
__device__ inline float ExpOf(float x) {
  return kIsQuick<T> ? QuickExp(x) : expf(x);
}
template <typename T>
__device__ inline float Exp2Of(float x) {
  return kIsQuick<T> ? QuickExp2(x) : exp2f(x);
}
template <typename T>
__device__ inline float InverseOf(float x) {
  return kIsQuick<T> ? QuickInverse(x) : 1.0F / x;
}

}  // namespace weft::kernels
