// Sigmoid times a factor: y = scale / (1 + exp(-x)). Any shape; scale is not 0.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// y may be x itself.
absl::Status SigmoidForward(Stream& stream, const Tensor& x, double scale, Tensor& y);

// From the result: dx = dy * y * (1 - y / scale). dx may be dy itself.
absl::Status SigmoidBackward(Stream& stream, const Tensor& y, double scale, const Tensor& dy,
                             Tensor& dx);

}  // namespace weft::kernels
