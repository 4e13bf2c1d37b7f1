// A vector that is added to every row. R rows, C channels.
//
// x may have any rank with C innermost; its other dimensions are the rows. The bias may have any
// shape of C elements, so a table of positions [T, C] is a bias of rows that are whole sequences.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// y[R,C] = x[R,C] + bias[C]. y may be x itself.
absl::Status BiasForward(Stream& stream, const Tensor& x, const Tensor& bias, Tensor& y);

// dbias[C] += the sum of dy[R,C] over the rows.
absl::Status BiasBackward(Stream& stream, const Tensor& dy, Tensor& dbias);

}  // namespace weft::kernels
