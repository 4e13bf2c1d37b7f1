// The sum of a tensor in fp64.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// out[1] (f64 on every device) = the sum of x (sum type, any shape) in fp64, in an order that
// depends on its size alone: that of the elements, except on a GPU.
absl::Status Sum(Stream& stream, const Tensor& x, Tensor& out);

}  // namespace weft::kernels
