// Causal depthwise convolution over a few tokens, followed by SiLU: for each channel c
//   z_t = sum over j < W of w[c][j] * x_{t-j}[c],   y_t = z_t * sigmoid(z_t).
//
// Tap j multiplies the input j tokens back (the reverse of a framework's Conv1d weight). Inputs
// before the first token come from `history` where it is given and are zero otherwise.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

inline constexpr int64_t kShortConvTaps = 16;  // W at most

// x[B,T,C], w[C,W], history (absent, or [B,W-1,C]: the W-1 inputs before x, oldest first)
// -> y[B,T,C]. y overlaps no operand.
absl::Status ShortConvForward(Stream& stream, const Tensor& x, const Tensor& w,
                              const Tensor& history, Tensor& y);

// dy[B,T,C] -> dx[B,T,C] and, unless it is absent, d_history[B,W-1,C], both overwritten; dw[C,W] is
// added to. z is computed again from x. Results overlap no operand.
absl::Status ShortConvBackward(Stream& stream, const Tensor& x, const Tensor& w,
                               const Tensor& history, const Tensor& dy, Tensor& dx,
                               Tensor& d_history, Tensor& dw);

}  // namespace weft::kernels
