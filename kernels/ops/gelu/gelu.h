// GELU: y = x * Phi(x), Phi the standard normal distribution, or its tanh form
// y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))), which differs from it by up to 5e-4.
// Any shape. Hendrycks and Gimpel 2016, "Gaussian error linear units".
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

enum class GeluForm : uint8_t { kExact, kTanh };

// y may be x itself.
absl::Status GeluForward(Stream& stream, GeluForm form, const Tensor& x, Tensor& y);

// dx = dy * (the derivative of the form at x). dx may be dy itself.
absl::Status GeluBackward(Stream& stream, GeluForm form, const Tensor& x, const Tensor& dy,
                          Tensor& dx);

}  // namespace weft::kernels
