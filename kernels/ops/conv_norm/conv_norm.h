// The short convolution with its SiLU (short_conv.h) and, behind it, the L2 norm over heads of D
// channels (l2_norm.h), as queries and keys of the delta rule take them:
//   a = SiLU(convolution(x)),   y = scale * a * n,   n = 1 / sqrt(sum(a^2) + eps).
//
// One op, so that a device that waits for memory need not store a.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// x[B,T,C], w[C,W], history (absent, or [B,W-1,C]) -> y[B,T,H,D] with H D = C and
// inverse_norm[B T H] (= n). scale is not 0. y overlaps no operand.
absl::Status ConvNormForward(Stream& stream, const Tensor& x, const Tensor& w,
                             const Tensor& history, double eps, double scale, Tensor& y,
                             Tensor& inverse_norm);

// dy[B,T,H,D] -> dx[B,T,C] and, unless it is absent, d_history[B,W-1,C], both overwritten; dw[C,W]
// is added to. y and inverse_norm are those of the forward pass. space[B,T,C] is working space: it
// holds anything afterwards. Results overlap no operand.
absl::Status ConvNormBackward(Stream& stream, const Tensor& x, const Tensor& w,
                              const Tensor& history, double scale, const Tensor& y,
                              const Tensor& inverse_norm, const Tensor& dy, Tensor& space,
                              Tensor& dx, Tensor& d_history, Tensor& dw);

}  // namespace weft::kernels
