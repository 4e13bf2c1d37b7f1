// The rectifier, relu(x) = max(x, 0). Any shape.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// y may be x itself. NaN stays NaN.
absl::Status ReluForward(Stream& stream, const Tensor& x, Tensor& y);

// From the result: dx = dy where y > 0, else 0. dx may be dy itself.
absl::Status ReluBackward(Stream& stream, const Tensor& y, const Tensor& dy, Tensor& dx);

}  // namespace weft::kernels
