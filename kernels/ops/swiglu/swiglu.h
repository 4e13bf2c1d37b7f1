// SwiGLU without its products: y = silu(gate) * up. Any shape. Shazeer, "GLU variants improve
// transformer".
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// y may be gate or up themselves.
absl::Status SwigluForward(Stream& stream, const Tensor& gate, const Tensor& up, Tensor& y);

// dgate = dy * up * s * (1 + gate * (1 - s)), s = sigmoid(gate); dup = dy * silu(gate). One of
// dgate and dup may be dy itself; they may also be gate and up themselves.
absl::Status SwigluBackward(Stream& stream, const Tensor& gate, const Tensor& up, const Tensor& dy,
                            Tensor& dgate, Tensor& dup);

}  // namespace weft::kernels
