// Random words, and integers in floating point, of VectorTable. A part of row_loops.cc: see
// lanes.h.
#pragma once

#include "kernels/device/cpu/vector/lanes.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

using Longs [[gnu::vector_size(kLanes * 4)]] = uint64_t;
using Doubles [[gnu::vector_size(kLanes * 4)]] = double;
constexpr int64_t kDoubleLanes = kLanes / 2;

// ---- Philox

constexpr int kPhiloxRounds = 10;

struct Product {
  Uints high, low;
};

Product Multiply(Uints a, uint32_t factor) {
  const auto pairs = __builtin_bit_cast(Longs, a);
  const Longs even = (pairs & 0xFFFFFFFFU) * uint64_t{factor};
  const Longs odd = (pairs >> 32) * uint64_t{factor};
  return {__builtin_bit_cast(Uints, (even >> 32) | (odd & 0xFFFFFFFF00000000U)), a * factor};
}

void PhiloxLanes(const PhiloxPlace& place, Uints ordinals, Uints* words) {
  Uints c0 = Uints{} + place.primary;
  Uints c1 = ordinals;
  Uints c2 = Uints{} + place.third;
  Uints c3 = Uints{} + place.fourth;
  auto key0 = static_cast<uint32_t>(place.key);
  auto key1 = static_cast<uint32_t>(place.key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const Product first = Multiply(c0, 0xD2511F53U);
    const Product second = Multiply(c2, 0xCD9E8D57U);
    c0 = second.high ^ c1 ^ key0;
    c1 = second.low;
    c2 = first.high ^ c3 ^ key1;
    c3 = first.low;
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

void RowPhilox(const PhiloxPlace& place, const uint32_t* ordinals, uint32_t* words, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t count = n - i < kLanes ? n - i : kLanes;
    Uints ordinal = {};
    __builtin_memcpy(&ordinal, ordinals + i, static_cast<uint64_t>(count) * sizeof(uint32_t));
    Uints planes[4];
    PhiloxLanes(place, ordinal, planes);
    uint32_t lanes[4][kLanes];
    __builtin_memcpy(lanes, planes, sizeof(lanes));
    for (int64_t lane = 0; lane < count; ++lane) {
      for (int64_t word = 0; word < 4; ++word) words[4 * (i + lane) + word] = lanes[word][lane];
    }
  }
}

Uints Load(const uint32_t* p, Whole /*whole*/) {
  Uints v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

Uints Load(const uint32_t* p, Part part) {
  Uints v = {};
  __builtin_memcpy(&v, p, static_cast<uint64_t>(part.count) * sizeof(uint32_t));
  return v;
}

void RowKeepFrom(const uint32_t* words, uint32_t least, float factor, const float* x, float* y,
                 int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const auto kept = __builtin_bit_cast(Ints, Load(words + i, extent) >= least);
    Store(y + i, Select(kept, All(factor) * Load(x + i, extent), All(0)), extent);
  });
}

// ---- Integers

void RowToUnits(float unit, const float* x, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Floats v = Load(x + i, extent);
    v = Select(v > All(0), v, All(0));  // NaN too
    v = Select(v < All(1), v, All(1)) * All(unit);
    // Adding and taking away 2^23 rounds to an integer, ties to even.
    Store(y + i, (v + All(0x1p23F)) - All(0x1p23F), extent);
  });
}

double RowIntegerDot(const double* a, const float* b, int64_t n) {
  double sums[kDoubleSums] = {};
  int64_t i = 0;
  for (; i + kDoubleSums <= n; i += kDoubleSums) {
    for (int k = 0; k < kDoubleSums; ++k) sums[k] += a[i + k] * static_cast<double>(b[i + k]);
  }
  for (int k = 0; i + k < n; ++k) sums[k] += a[i + k] * static_cast<double>(b[i + k]);
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

// Rows of `a` at once, so that each element of `b` is loaded for all of them; columns of b in
// registers.
template <int kRows, int kVectors>
void IntegerProductTile(const double* a, const double* b, double* y, int64_t k, int64_t n) {
  Doubles sums[kRows][kVectors] = {};
  for (int64_t u = 0; u < k; ++u) {
    for (int vector = 0; vector < kVectors; ++vector) {
      Doubles column;
      __builtin_memcpy(&column, b + u * n + vector * kDoubleLanes, sizeof(column));
      for (int row = 0; row < kRows; ++row) sums[row][vector] += column * a[row * k + u];
    }
  }
  for (int row = 0; row < kRows; ++row) {
    __builtin_memcpy(y + row * n, sums[row], sizeof(sums[row]));
  }
}

template <int kRows>
void IntegerProductRows(const double* a, const double* b, double* y, int64_t k, int64_t n) {
  constexpr int kVectors = 2;
  int64_t j = 0;
  for (; j + kVectors * kDoubleLanes <= n; j += kVectors * kDoubleLanes) {
    IntegerProductTile<kRows, kVectors>(a, b + j, y + j, k, n);
  }
  for (; j + kDoubleLanes <= n; j += kDoubleLanes) {
    IntegerProductTile<kRows, 1>(a, b + j, y + j, k, n);
  }
  for (; j < n; ++j) {
    for (int row = 0; row < kRows; ++row) {
      double sum = 0;
      for (int64_t u = 0; u < k; ++u) sum += a[row * k + u] * b[u * n + j];
      y[row * n + j] = sum;
    }
  }
}

void RowsIntegerProduct(const double* a, const double* b, double* y, int64_t m, int64_t k,
                        int64_t n) {
  constexpr int kRows = 4;
  int64_t row = 0;
  for (; row + kRows <= m; row += kRows) {
    IntegerProductRows<kRows>(a + row * k, b, y + row * n, k, n);
  }
  for (; row < m; ++row) IntegerProductRows<1>(a + row * k, b, y + row * n, k, n);
}

}  // namespace
}  // namespace weft::kernels::WEFT_VECTOR_SET
