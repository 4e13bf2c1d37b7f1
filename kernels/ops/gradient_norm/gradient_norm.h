// The global norm of a gradient and what to do when it is too large.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// Partial sums are over blocks of this many elements of the flattened tensor, added in their order.
inline constexpr int64_t kSumOfSquaresBlock = 4096;

// out[1] (f64 on every device) = sum of x^2, in fp64. Sum type, any shape. Several parameters: give
// the one block that holds them all, or add the results in a fixed order.
absl::Status SumOfSquares(Stream& stream, const Tensor& x, Tensor& out);

// clip[1] (sum type) = min(1, max_norm / sqrt(sum_of_squares[1])), sum_of_squares in f64.
// max_norm <= 0 switches clipping off: clip = 1. Not finite when the sum is NaN; 0 when it is
// infinite. The caller looks at the sum to skip such a step.
absl::Status ClipFactor(Stream& stream, const Tensor& sum_of_squares, double max_norm,
                        Tensor& clip);

}  // namespace weft::kernels
