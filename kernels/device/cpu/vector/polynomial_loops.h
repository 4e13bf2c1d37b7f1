// Even powers and products of a row with itself: the loops of polynomial attention. A part of
// row_loops.cc: see lanes.h.
#pragma once

#include "kernels/device/cpu/vector/lanes.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

constexpr float kSquareRootOfTwo = 1.41421356F;

// x^(2^squarings) and its derivative, p x^(p-1).
struct Power {
  Floats value;
  Floats slope;
};

template <int squarings>
[[gnu::always_inline]] inline Power PowerOf(Floats x) {
  Power power = {x, All(1)};
  for (int i = 0; i < squarings; ++i) {
    power.slope *= power.value + power.value;
    power.value *= power.value;
  }
  return power;
}

template <int squarings>
float RowPower(const float* x, float* y, int64_t n) {
  return Sum(n, [=](int64_t i, auto extent) {
    const Floats value = PowerOf<squarings>(Load(x + i, extent)).value;
    Store(y + i, value, extent);
    return value;  // zero beyond the part, where x is
  });
}

float RowEvenPower(int squarings, const float* x, float* y, int64_t n) {
  switch (squarings) {
    case 1:
      return RowPower<1>(x, y, n);
    case 2:
      return RowPower<2>(x, y, n);
    default:
      return RowPower<3>(x, y, n);
  }
}

template <int squarings>
void RowPowerBackward(float* x, float shift, float* d, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    const Power power = PowerOf<squarings>(Load(x + i, extent));
    Store(x + i, power.value, extent);
    Store(d + i, power.slope * (Load(d + i, extent) - All(shift)), extent);
  });
}

void RowEvenPowerBackward(int squarings, float* x, float shift, float* d, int64_t n) {
  switch (squarings) {
    case 1:
      return RowPowerBackward<1>(x, shift, d, n);
    case 2:
      return RowPowerBackward<2>(x, shift, d, n);
    default:
      return RowPowerBackward<3>(x, shift, d, n);
  }
}

// Calls band(distance, first, count, factor) for every band of products: entries a and
// (a + distance) mod n, a = 0 ... count - 1, stored from `first` on.
template <typename Band>
[[gnu::always_inline]] inline void ForBands(int64_t n, Band band) {
  for (int64_t distance = 0; 2 * distance <= n; ++distance) {
    const int64_t count = 2 * distance == n ? n / 2 : n;
    band(distance, distance * n, count, distance == 0 ? 1.0F : kSquareRootOfTwo);
  }
}

void RowSelfProduct(const float* x_twice, float* y, int64_t n) {
  ForBands(n, [=](int64_t distance, int64_t first, int64_t count, float factor) {
    RowScaledMultiply(factor, x_twice, x_twice + distance, y + first, count);
  });
}

void RowSelfProductBackward(const float* x_twice, const float* dy, float* dx_twice, int64_t n) {
  ForVectors(2 * n, [=](int64_t i, auto extent) { Store(dx_twice + i, Floats{}, extent); });
  ForBands(n, [=](int64_t distance, int64_t first, int64_t count, float factor) {
    RowScaledMultiplyAdd(factor, x_twice + distance, dy + first, dx_twice, count);
    RowScaledMultiplyAdd(factor, x_twice, dy + first, dx_twice + distance, count);
  });
}

}  // namespace
}  // namespace weft::kernels::WEFT_VECTOR_SET
