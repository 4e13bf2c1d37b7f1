// What a classifier is told of a pair of vectors a and b: [a, b, a * b, a - b]. Conneau et al.
// 2017, "Supervised learning of universal sentence representations", section 3.1 (there with |a -
// b|), as the two-tower models of the Long Range Arena use it. R pairs, C channels.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// x[R,2C] with rows [a, b] -> y[R,4C].
absl::Status PairFeaturesForward(Stream& stream, const Tensor& x, Tensor& y);

// x[R,2C], dy[R,4C] -> dx[R,2C].
absl::Status PairFeaturesBackward(Stream& stream, const Tensor& x, const Tensor& dy, Tensor& dx);

}  // namespace weft::kernels
