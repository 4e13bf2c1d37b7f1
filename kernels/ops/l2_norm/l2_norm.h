// L2 normalisation over the innermost dimension D, with a factor folded in (the query scale of an
// attention): y = scale * x * n, n = 1 / sqrt(sum(x^2) + eps).
//
// x may have any rank with D innermost; R counts its rows. eps > 0 keeps rows of zeros finite.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// x[R,D] -> y[R,D], inverse_norm[R] (= n, without the scale). scale is not 0. y may be x itself.
absl::Status L2NormForward(Stream& stream, const Tensor& x, double eps, double scale, Tensor& y,
                           Tensor& inverse_norm);

// dx[R,D] = n * (scale * dy - y * sum(y * dy) / scale); exact for any eps. Needs the result y, not
// x. dx may be dy itself.
absl::Status L2NormBackward(Stream& stream, const Tensor& y, const Tensor& inverse_norm,
                            double scale, const Tensor& dy, Tensor& dx);

}  // namespace weft::kernels
