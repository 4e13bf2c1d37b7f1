// Linear: y = x * transpose(w) + bias + residual. R rows, K inputs, N outputs.
//
// x may have any rank with K innermost; its other dimensions are the rows. Results overlap no
// operand. Each output element is one sum over the whole contraction, in an order that depends on
// the shapes alone.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/accumulate.h"

namespace weft::kernels {

// y[R,N] = x[R,K] * w[N,K]^T + bias[N] + residual[R,N], where bias and residual may be absent. The
// bias of a backward pass is BiasBackward's; the residual's gradient is dy.
absl::Status LinearForward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                           const Tensor& residual, Tensor& y);

// dx[R,K] (+)= dy[R,N] * w[N,K]
absl::Status LinearBackwardInput(Stream& stream, const Tensor& dy, const Tensor& w, Tensor& dx,
                                 Accumulate accumulate);

// dw[N,K] += dy[R,N]^T * x[R,K]
absl::Status LinearBackwardWeight(Stream& stream, const Tensor& dy, const Tensor& x, Tensor& dw);

}  // namespace weft::kernels
