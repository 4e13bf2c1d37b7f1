// Fill, copy, convert and add: any shape.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// x = value everywhere; x is of the compute type, the sum type or i32 (then value is a whole
// number).
absl::Status Fill(Stream& stream, Tensor& x, double value);

// to = from: same type, same count (shapes may differ), any type. They do not overlap.
absl::Status Copy(Stream& stream, const Tensor& from, Tensor& to);

// to = from, rounded to nearest where it must be: compute type to sum type or the other way, same
// count. They do not overlap.
absl::Status Convert(Stream& stream, const Tensor& from, Tensor& to);

// out = a + b: same shape, all of the compute type or all of the sum type. `out` may be a or b
// themselves.
absl::Status Add(Stream& stream, const Tensor& a, const Tensor& b, Tensor& out);

}  // namespace weft::kernels
