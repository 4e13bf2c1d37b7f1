// Floating-point values as integers with a power-of-two scale for each block, so that they can be
// summed over shards in any order and grouping with equal bits.
//
// The scale of a block follows from the largest binary exponent e of its elements over ALL shards
// (the maximum of every shard's BlockExponents). A value x, |x| < 2^(e+1), becomes the integer
// nearest to x / unit, unit = 2^(e + 1 - bits), ties to even, held within +-(2^bits - 1). Its error
// is at most half a unit (less than one where it was held). V shards with bits = FixedPointBits(V)
// never overflow an int32.
#pragma once

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/accumulate.h"

namespace weft::kernels {

inline constexpr int64_t kFixedPointBlock = 1024;

// The exponent of a block that holds an infinity or a NaN: above every other, so the maximum over
// shards carries it.
inline constexpr int32_t kNonFiniteExponent = std::numeric_limits<int32_t>::max();
// The exponent of a block of zeros: below every other.
inline constexpr int32_t kZeroExponent = std::numeric_limits<int32_t>::min();

// The number of blocks of n elements.
constexpr int64_t FixedPointBlocks(int64_t n) {
  return (n + kFixedPointBlock - 1) / kFixedPointBlock;
}

// How many bits an integer may have so that `shards` of them never overflow an int32:
// 31 - ceil(log2 shards). shards in [1, 2^24].
constexpr int FixedPointBits(int64_t shards) {
  int bits = 31;
  while ((int64_t{1} << (31 - bits)) < shards) --bits;
  return bits;
}

// x[n] -> exponents i32[FixedPointBlocks(n)]: the e of 2^e <= max|x| < 2^(e+1), denormals
// included; kZeroExponent or kNonFiniteExponent. With kYes the maximum of that and of what was
// there.
absl::Status BlockExponents(Stream& stream, const Tensor& x, Accumulate accumulate,
                            Tensor& exponents);

// x[n] -> sum i32[n]: the integers of x, with kYes added to what was there. `exponents` holds each
// block's maximum over all shards, so it is at least x's own. Those of a block of kZeroExponent or
// kNonFiniteExponent are zeros. bits in [7, 31].
absl::Status Quantize(Stream& stream, const Tensor& x, const Tensor& exponents, int bits,
                      Accumulate accumulate, Tensor& sum);

// x[n] = sum * unit, rounded once; NaN in a block of kNonFiniteExponent.
absl::Status Dequantize(Stream& stream, const Tensor& sum, const Tensor& exponents, int bits,
                        Tensor& x);

}  // namespace weft::kernels
