// SiLU: y = x * sigmoid(x). Any shape.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// y may be x itself.
absl::Status SiluForward(Stream& stream, const Tensor& x, Tensor& y);

// dx = dy * s * (1 + x * (1 - s)), s = sigmoid(x). dx may be dy itself.
absl::Status SiluBackward(Stream& stream, const Tensor& x, const Tensor& dy, Tensor& dx);

}  // namespace weft::kernels
