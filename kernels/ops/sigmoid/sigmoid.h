// Sigmoid times a factor: y = scale / (1 + exp(-x)). Any shape; scale is not 0. y is a coefficient
// that recurrences multiply up many times, so it and its gradient have the sum type.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// y may be x itself where the two types are one.
absl::Status SigmoidForward(Stream& stream, const Tensor& x, double scale, Tensor& y);

// From the result: dx = dy * y * (1 - y / scale). dx may be dy itself where the
// two types are one.
absl::Status SigmoidBackward(Stream& stream, const Tensor& y, double scale, const Tensor& dy,
                             Tensor& dx);

}  // namespace weft::kernels
