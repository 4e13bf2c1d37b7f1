// What the tests of attention on a GPU share: operands as the device sees them, and how far its
// results may be from the reference's.
#pragma once

#include <string>

#include "kernels/device/host_values.h"
#include "tests/kernels/attention/attention_testing.h"
#include "tests/testing/gpu.h"

namespace weft::kernels::testing {

// The arrays rounded to the type that the device computes in.
inline void RoundTo(DType dtype, std::initializer_list<Values*> arrays) {
  for (Values* const array : arrays) {
    for (double& value : *array) {
      value = static_cast<float>(value);
      if (dtype == DType::kBf16) value = FloatFromBf16(Bf16From(static_cast<float>(value)));
    }
  }
}

// In fp32: a few roundings of the largest result, or of `terms`, the size of terms that cancel. In
// bf16, whose roundings are of 2^-9: the weights of pairs are rounded before they are summed, and
// results once more, so two such roundings of the whole in the mean, and eight anywhere.
inline void ExpectNear(DType dtype, const Values& got, const Values& exact, const std::string& what,
                       double terms = 0.0) {
  const double largest = std::max(terms, MaxMagnitude(exact));
  if (dtype == DType::kF32) {
    EXPECT_LE(MaxDifference(got, exact), 16 * 0x1p-23 * largest) << what;
    return;
  }
  const double mean = std::max(RootMeanSquare(exact), 0.1 * terms);
  EXPECT_LE(RootMeanSquareDifference(got, exact), 2 * 0x1p-8 * mean) << what;
  EXPECT_LE(MaxDifference(got, exact), 8 * 0x1p-8 * largest) << what;
}

}  // namespace weft::kernels::testing
