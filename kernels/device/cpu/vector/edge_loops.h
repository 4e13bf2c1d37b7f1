// Loops along the edges of a graph, of VectorTable: rows of a matrix that are picked by a list, and
// masks of bits. A part of row_loops.cc: see lanes.h.
#pragma once

#include "kernels/device/cpu/vector/lanes.h"

namespace weft::kernels::WEFT_VECTOR_SET {
namespace {

// Calls body(first, vectors) for every stretch of kVectors, 1 or a part of a vector: `vectors` is
// the number as a constant, 0 for the part.
template <int kNumber>
struct Vectors {};

template <typename Body>
[[gnu::always_inline]] inline void ForStretches(int64_t width, Body body) {
  constexpr int kMany = 4;
  int64_t i = 0;
  for (; i + kMany * kLanes <= width; i += kMany * kLanes) body(i, Vectors<kMany>{}, Whole{});
  for (; i + kLanes <= width; i += kLanes) body(i, Vectors<1>{}, Whole{});
  if (i < width) body(i, Vectors<1>{}, Part{width - i});
}

// Several sums at once hide the latency of each; a row's own sum runs in the order of RowDot's
// first vectors.
constexpr int kRowsAtOnce = 4;

template <int kRows>
void DotRows(const float* x, const float* rows, int64_t stride, const int32_t* picks, float* y,
             int64_t width) {
  Floats sums[kRows] = {};
  const float* from[kRows];
  for (int r = 0; r < kRows; ++r) from[r] = rows + picks[r] * stride;
  ForVectors(width, [&](int64_t i, auto extent) {
    const Floats v = Load(x + i, extent);
    for (int r = 0; r < kRows; ++r) sums[r] += v * Load(from[r] + i, extent);
  });
  for (int r = 0; r < kRows; ++r) y[r] = SumLanes(sums[r]);
}

void PickedDots(const float* x, const float* rows, int64_t stride, const int32_t* picks, float* y,
                int64_t width, int64_t n) {
  int64_t e = 0;
  for (; e + kRowsAtOnce <= n; e += kRowsAtOnce) {
    DotRows<kRowsAtOnce>(x, rows, stride, picks + e, y + e, width);
  }
  for (; e < n; ++e) DotRows<1>(x, rows, stride, picks + e, y + e, width);
}

void PickedSum(const float* weights, const float* rows, int64_t stride, const int32_t* picks,
               float* y, int64_t width, int64_t n) {
  ForStretches(width, [=]<int kNumber>(int64_t i, Vectors<kNumber>, auto extent) {
    Floats sums[kNumber];
    for (int k = 0; k < kNumber; ++k) sums[k] = Load(y + i + k * kLanes, extent);
    for (int64_t e = 0; e < n; ++e) {
      const float* const row = rows + picks[e] * stride + i;
      for (int k = 0; k < kNumber; ++k) sums[k] += All(weights[e]) * Load(row + k * kLanes, extent);
    }
    for (int k = 0; k < kNumber; ++k) Store(y + i + k * kLanes, sums[k], extent);
  });
}

void PickedAdd(const float* weights, const float* x, const int32_t* picks, float* rows,
               int64_t stride, int64_t width, int64_t n) {
  ForStretches(width, [=]<int kNumber>(int64_t i, Vectors<kNumber>, auto extent) {
    Floats values[kNumber];
    for (int k = 0; k < kNumber; ++k) values[k] = Load(x + i + k * kLanes, extent);
    for (int64_t e = 0; e < n; ++e) {
      float* const row = rows + picks[e] * stride + i;
      for (int k = 0; k < kNumber; ++k) {
        float* const at = row + k * kLanes;
        Store(at, Load(at, extent) + All(weights[e]) * values[k], extent);
      }
    }
  });
}

// Bit l for lane l.
Ints LaneBits() {
  Ints bits;
  for (int64_t lane = 0; lane < kLanes; ++lane) bits[lane] = int32_t{1} << lane;
  return bits;
}

// All ones where the bit is set. Vectors begin at multiples of kLanes, so no vector reaches over
// the end of a word.
Ints BitsAt(const uint64_t* bits, int64_t i) {
  const auto word = static_cast<int32_t>(static_cast<uint32_t>(bits[i / 64] >> (i % 64)));
  return ((Ints{} + word) & LaneBits()) != 0;
}

void RowKeepBits(const uint64_t* bits, float other, const float* x, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Store(y + i, Select(BitsAt(bits, i), Load(x + i, extent), All(other)), extent);
  });
}

void RowBitsBelow(const uint32_t* words, float add, const float* x, uint64_t* bits, int64_t n) {
  for (int64_t w = 0; w < (n + 63) / 64; ++w) bits[w] = 0;
  ForVectors(n, [=](int64_t i, auto extent) {
    const auto high = __builtin_bit_cast(Ints, Load(words + i, extent) >> 8);
    const Floats drawn = __builtin_convertvector(high, Floats) * All(0x1p-24F);
    // Beyond a part nothing is below minus infinity.
    const Ints below = drawn < Load(x + i, extent, -kInfinity) + All(add);
    const int32_t all = FoldLanes(below & LaneBits(), [](auto a, auto b) { return a | b; });
    bits[i / 64] |= uint64_t{static_cast<uint32_t>(all)} << (i % 64);
  });
}

int64_t CountBits(const uint64_t* bits, int64_t words) {
  int64_t count = 0;
  for (int64_t w = 0; w < words; ++w) count += __builtin_popcountll(bits[w]);
  return count;
}

void RowClip(float add, float limit, const float* x, float* y, int64_t n) {
  ForVectors(n, [=](int64_t i, auto extent) {
    Floats v = Load(x + i, extent) + All(add);
    v = Select(v > All(limit), All(limit), v);
    Store(y + i, Select(v < All(-limit), All(-limit), v), extent);
  });
}

}  // namespace
}  // namespace weft::kernels::WEFT_VECTOR_SET
