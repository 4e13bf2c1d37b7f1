// A linear map with the GELU in its tanh form (gelu.h) behind it, for devices whose products can
// apply it on their way out. R rows, K inputs, N outputs.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// before[R,N] = x[R,K] * w[N,K]^T + bias[N] (absent: none); y[R,N] = GELU(before). A device may
// round `before` only where it is kept.
absl::Status LinearGeluForward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                               Tensor& before, Tensor& y);

// The gradient of a GELU that a linear map w[N,K] is applied to: dx[R,K] = (dy[R,N] * w[N,K]) *
// (the derivative of GELU at before[R,K]); dbias[K] (sum type; absent: not wanted) += the sums of
// its columns. A device may round the product before the derivative, and add dx before it is
// rounded.
absl::Status LinearBackwardGelu(Stream& stream, const Tensor& dy, const Tensor& w,
                                const Tensor& before, Tensor& dx, Tensor& dbias);

}  // namespace weft::kernels
