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

// Bands of products of entries a and (a + distance) mod n: `whole` of them have n products, and for
// even n one more has n / 2.
constexpr int64_t WholeBands(int64_t n) { return (n + 1) / 2; }

void RowSelfProduct(const float* x_twice, float* y, int64_t n) {
  RowMultiply(x_twice, x_twice, y, n);
  const int64_t whole = WholeBands(n);
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats x = All(kSquareRootOfTwo) * Load(x_twice + i, extent);
    for (int64_t distance = 1; distance < whole; ++distance) {
      Store(y + distance * n + i, x * Load(x_twice + distance + i, extent), extent);
    }
  });
  if (n % 2 == 0) {
    RowScaledMultiply(kSquareRootOfTwo, x_twice, x_twice + n / 2, y + whole * n, n / 2);
  }
}

// A product passes its gradient to both entries: at its own place in the band, and `distance`
// further on the circle. The second sums are taken from rows that hold their band twice, all of
// them stored before the first is read: a load that meets half of a fresh store waits for it.
void RowSelfProductBackward(const float* x_twice, const float* dy, float* space, float* dx,
                            int64_t n) {
  const int64_t whole = WholeBands(n);
  ForVectors(n, [=](int64_t i, auto extent) {
    const Floats x = Load(x_twice + i, extent);
    Floats sum = (x + x) * Load(dy + i, extent);
    for (int64_t distance = 1; distance < whole; ++distance) {
      const Floats slope = All(kSquareRootOfTwo) * Load(dy + distance * n + i, extent);
      sum += Load(x_twice + distance + i, extent) * slope;
      float* const band = space + (distance - 1) * 2 * n;
      Store(band + i, x * slope, extent);
      Store(band + n + i, x * slope, extent);
    }
    Store(dx + i, sum, extent);
  });
  ForVectors(n, [=](int64_t i, auto extent) {
    Floats sum = Load(dx + i, extent);
    for (int64_t distance = 1; distance < whole; ++distance) {
      sum += Load(space + (distance - 1) * 2 * n + n - distance + i, extent);
    }
    Store(dx + i, sum, extent);
  });
  if (n % 2 == 0) {
    const float* const last = dy + whole * n;
    RowScaledMultiplyAdd(kSquareRootOfTwo, x_twice + n / 2, last, dx, n / 2);
    RowScaledMultiplyAdd(kSquareRootOfTwo, x_twice, last, dx + n / 2, n / 2);
  }
}

}  // namespace
}  // namespace weft::kernels::WEFT_VECTOR_SET
