// Vectors of WEFT_VECTOR_LANES floats: in memory, in sums, and the exponential. A part of
// row_loops.cc and of nothing else: it is compiled once for each instruction set (namespace
// WEFT_VECTOR_SET) and includes nothing.
#pragma once

#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

constexpr int64_t kLanes = WEFT_VECTOR_LANES;
constexpr int64_t kAccumulators = 4;  // independent sums hide the latency of an addition
constexpr int kDoubleSums = 16;       // the same for a sum in fp64
constexpr float kInfinity = __builtin_inff();

using Floats [[gnu::vector_size(kLanes * 4)]] = float;
using Ints [[gnu::vector_size(kLanes * 4)]] = int32_t;
using Uints [[gnu::vector_size(kLanes * 4)]] = uint32_t;

// ---- Vectors in memory: whole ones, and the part at the end of a row

struct Whole {};
struct Part {
  int64_t count;  // in (0, kLanes)
};

Floats All(float value) { return Floats{} + value; }

Floats Load(const float* p, Whole /*whole*/, float /*rest*/ = 0) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

// Lanes beyond the part hold `rest`.
Floats Load(const float* p, Part part, float rest = 0) {
  Floats v = All(rest);
  __builtin_memcpy(&v, p, static_cast<uint64_t>(part.count) * sizeof(float));
  return v;
}

void Store(float* p, Floats v, Whole /*whole*/) { __builtin_memcpy(p, &v, sizeof(v)); }

void Store(float* p, Floats v, Part part) {
  __builtin_memcpy(p, &v, static_cast<uint64_t>(part.count) * sizeof(float));
}

// Zero in the lanes beyond the part.
Floats Keep(Floats v, Whole /*whole*/) { return v; }

Floats Keep(Floats v, Part part) {
  for (int64_t lane = part.count; lane < kLanes; ++lane) v[lane] = 0;
  return v;
}

// Calls body(i, Whole) for every whole vector of a row and body(i, Part) for what is left.
template <typename Body>
[[gnu::always_inline]] inline void ForVectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, Whole{});
  if (i < n) body(i, Part{n - i});
}

// ---- Lanes

Floats Select(Ints condition, Floats yes, Floats no) {
  const Ints chosen =
      (condition & __builtin_bit_cast(Ints, yes)) | (~condition & __builtin_bit_cast(Ints, no));
  return __builtin_bit_cast(Floats, chosen);
}

Floats Magnitude(Floats v) {
  return __builtin_bit_cast(Floats, __builtin_bit_cast(Ints, v) & 0x7FFFFFFF);
}

Floats Larger(Floats a, Floats b) { return Select(a > b, a, b); }

// The upper half of the lanes is combined with the lower one until one is left. In vectors, because
// the compiler would put single lanes through memory.
template <typename Vector, typename Combine>
[[gnu::always_inline]] inline auto FoldLanes(Vector v, Combine combine) {
#if WEFT_VECTOR_LANES == 16
  const auto eight = combine(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                             __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#else
  const auto eight = v;
#endif
#if WEFT_VECTOR_LANES >= 8
  const auto four = combine(__builtin_shufflevector(eight, eight, 0, 1, 2, 3),
                            __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
#else
  const auto four = eight;
#endif
  const auto two = combine(four, __builtin_shufflevector(four, four, 2, 3, 2, 3));
  return combine(two[0], two[1]);
}

float SumLanes(Floats v) {
  return FoldLanes(v, [](auto a, auto b) { return a + b; });
}

float MaxLanes(Floats v) {
  return FoldLanes(v, [](auto a, auto b) { return a > b ? a : b; });
}

// The sum of term(i, extent) over a row: four interleaved sums, then pairs. Terms of the lanes
// beyond a part must be zero.
template <typename Term>
[[gnu::always_inline]] inline float Sum(int64_t n, Term term) {
  Floats sums[kAccumulators] = {};
  int64_t i = 0;
  for (; i + kAccumulators * kLanes <= n; i += kAccumulators * kLanes) {
    for (int64_t k = 0; k < kAccumulators; ++k) sums[k] += term(i + k * kLanes, Whole{});
  }
  for (; i + kLanes <= n; i += kLanes) sums[0] += term(i, Whole{});
  if (i < n) sums[1] += term(i, Part{n - i});
  return SumLanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// ---- Exponential

// 2^k for k in [-126, 127].
Floats PowerOfTwo(Ints k) {
  return __builtin_bit_cast(Floats, __builtin_bit_cast(Uints, k + 127) << 23);
}

// x = k ln 2 + r with |r| <= ln(2) / 2.
struct Exponent {
  Floats r;
  Ints k;
};

Exponent SplitExponent(Floats x) {
  // Outside these bounds the result is 0 or infinity; NaN passes both comparisons unchanged.
  x = Select(x > All(89), All(89), x);
  x = Select(x < All(-104), All(-104), x);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const Floats big = All(0x1.8p23F);
  const Floats shifted = x * All(0x1.715476p+0F) + big;
  const Ints k =
      __builtin_bit_cast(Ints, __builtin_bit_cast(Uints, shifted) - __builtin_bit_cast(Uints, big));
  const Floats rounded = shifted - big;
  // ln 2 in two parts; the first has 9 bits, so its product with k is exact.
  const Floats r = x - rounded * All(0x1.63p-1F);
  return {r - rounded * All(-0x1.bd0106p-13F), k};
}

// 2^k exp(r) with exp(r) by its series to r^7, which leaves 5e-9 of relative error, a tenth of half
// an ulp.
Floats Exp(Exponent exponent) {
  const Floats r = exponent.r;
  Floats p = All(1.0F / 5040);
  p = p * r + All(1.0F / 720);
  p = p * r + All(1.0F / 120);
  p = p * r + All(1.0F / 24);
  p = p * r + All(1.0F / 6);
  p = p * r + All(0.5F);
  p = p * r + All(1.0F);
  p = p * r + All(1.0F);
  // k reaches from -150 (denormal results) to 128 (infinity): two factors, rounded once.
  const Ints half = exponent.k >> 1;
  return p * PowerOfTwo(half) * PowerOfTwo(exponent.k - half);
}

Floats Exp(Floats x) { return Exp(SplitExponent(x)); }

// exp(x + low), low what x lacks to an exact argument: |low| <= 0.05.
Floats Exp(Floats x, Floats low) {
  Exponent exponent = SplitExponent(x);
  exponent.r += low;
  return Exp(exponent);
}

// ---- Loops that other loops are made of

float RowSum(const float* x, int64_t n) {
  return Sum(n, [=](int64_t i, auto extent) { return Load(x + i, extent); });
}

float RowDot(const float* a, const float* b, int64_t n) {
  return Sum(n, [=](int64_t i, auto extent) { return Load(a + i, extent) * Load(b + i, extent); });
}

void RowMultiply(const float* a, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, Load(a + i, extent) * Load(b + i, extent), extent);
  });
}

void RowScaledMultiply(float factor, const float* a, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, All(factor) * Load(a + i, extent) * Load(b + i, extent), extent);
  });
}

void RowScaledMultiplyAdd(float factor, const float* a, const float* b, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats product = All(factor) * Load(a + i, extent) * Load(b + i, extent);
    Store(y + i, Load(y + i, extent) + product, extent);
  });
}

}  // namespace
}  // namespace weft::kernels::WEFT_VECTOR_SET
