// LayerNorm over the innermost dimension C with scales w and shifts b: y = w * (x - mean) * rstd +
// b, rstd = 1 / sqrt(mean((x - mean)^2) + eps). Ba, Kiros and Hinton 2016, "Layer normalization".
//
// x may have any rank with C innermost; R counts its rows (for a norm of each head: tokens times
// heads).
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/accumulate.h"

namespace weft::kernels {

// x[R,C], w[C], b[C] -> y[R,C], mean[R], rstd[R]. y may be x itself.
absl::Status LayerNormForward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& b,
                              double eps, Tensor& y, Tensor& mean, Tensor& rstd);

// With g = w * dy and n = (x - mean) * rstd: dx[R,C] (+)= rstd * (g - mean(g) - n * mean(g * n));
// dw[C] += sum over rows of dy * n; db[C] += sum over rows of dy. dx may be dy itself when it is
// overwritten; x stays as the forward pass saw it. When dx is added to, dx_sums[C] (absent: not
// wanted) += sum over rows of dx as it was: dx is read anyway.
absl::Status LayerNormBackward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& mean,
                               const Tensor& rstd, const Tensor& dy, Tensor& dx,
                               Accumulate accumulate, Tensor& dw, Tensor& db, Tensor& dx_sums);

}  // namespace weft::kernels
