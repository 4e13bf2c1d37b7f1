// The mean of a sequence's tokens, padding counted as zeros: the sum over the valid tokens divided
// by ALL T. That is how the encoders of the Long Range Arena pool (Xiong et al. 2021,
// "Nystromformer"; Chen et al. 2021, "Scatterbrain"). B sequences, T tokens, C channels.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// x[B,T,C], valid i32[B,T] (0: padding; absent: none is) -> y[B,C].
absl::Status MeanPoolForward(Stream& stream, const Tensor& x, const Tensor& valid, Tensor& y);

// dx[B,T,C] = dy[B,C] / T at valid tokens, 0 at padding.
absl::Status MeanPoolBackward(Stream& stream, const Tensor& dy, const Tensor& valid, Tensor& dx);

}  // namespace weft::kernels
