// The elements of a tensor as doubles on the host, whatever type they have on the device. For what
// is small or rare: initial weights, losses, tests.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// Rounds to nearest, ties to even; NaN stays NaN.
uint16_t Bf16From(float value);
float FloatFromBf16(uint16_t bits);

// Rounds each value to the tensor's type; there are as many as the tensor has elements.
absl::Status WriteValues(Tensor& tensor, absl::Span<const double> values, Stream& stream);
absl::StatusOr<std::vector<double>> ReadValues(const Tensor& tensor, Stream& stream);

}  // namespace weft::kernels
