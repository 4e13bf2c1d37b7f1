// GEGLU without its products: y = gelu(gate) * up. Any shape. Shazeer 2020, "GLU variants improve
// transformer".
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/gelu/gelu.h"

namespace weft::kernels {

// y may be gate or up themselves.
absl::Status GegluForward(Stream& stream, GeluForm form, const Tensor& gate, const Tensor& up,
                          Tensor& y);

// dgate = dy * up * (the derivative of gelu at gate); dup = dy * gelu(gate). One of dgate and dup
// may be dy itself; they may also be gate and up themselves.
absl::Status GegluBackward(Stream& stream, GeluForm form, const Tensor& gate, const Tensor& up,
                           const Tensor& dy, Tensor& dgate, Tensor& dup);

}  // namespace weft::kernels
