// RMSNorm over the innermost dimension C with weights w: y = w * x * rstd,
// rstd = 1 / sqrt(mean(x^2) + eps). Zhang and Sennrich, "Root mean square layer normalization".
//
// x may have any rank with C innermost; R counts its rows (for a norm of each head: tokens times
// heads).
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/accumulate.h"

namespace weft::kernels {

// x[R,C], w[C] -> y[R,C], rstd[R]. y may be x itself.
absl::Status RmsNormForward(Stream& stream, const Tensor& x, const Tensor& w, double eps, Tensor& y,
                            Tensor& rstd);

// With g = w * dy: dx[R,C] (+)= rstd * (g - x * rstd^2 * mean(g * x)); dw[C] += sum over rows of
// dy * x * rstd. dx may be dy itself when it is overwritten; x stays as the forward pass saw it.
// When dx is added to, dx_sums[C] (absent: not wanted) += sum over rows of dx as it was: dx is read
// anyway.
absl::Status RmsNormBackward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& rstd,
                             const Tensor& dy, Tensor& dx, Accumulate accumulate, Tensor& dw,
                             Tensor& dx_sums);

}  // namespace weft::kernels
