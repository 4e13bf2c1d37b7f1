// A projection to classes (the tokens of a vocabulary) and the cross entropy of its softmax in one.
// With logits z_r = w h_r + bias, for row r with target t,
//   losses[r] = log(sum over v of exp(z_rv)) - z_rt
//   right[r]  = 1 if t is the predicted class, else 0
// The prediction is the class of the largest logit, of equal ones the lowest. Never holds more than
// a block of rows of logits. R rows, C channels, V classes.
//
// A target < 0 means: not a training example; its loss and its `right` are 0 and it has no
// gradient. A target >= V is kInvalidArgument that names the row.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// h[R,C] (any rank with C innermost), w[V,C], bias[V] (absent: none), targets i32[R] (any rank) ->
// losses[R], right[R] (the shape of targets).
absl::Status LinearCrossEntropyForward(Stream& stream, const Tensor& h, const Tensor& w,
                                       const Tensor& bias, const Tensor& targets, Tensor& losses,
                                       Tensor& right);

// The same, and in the same pass the gradient of gradient_scale * sum(losses): dh[R,C] is
// overwritten, dw[V,C] and dbias[V] (absent with the bias) are added to. gradient_scale is 1 /
// (targets of the whole batch) for a mean.
absl::Status LinearCrossEntropyForwardBackward(Stream& stream, const Tensor& h, const Tensor& w,
                                               const Tensor& bias, const Tensor& targets,
                                               double gradient_scale, Tensor& losses, Tensor& right,
                                               Tensor& dh, Tensor& dw, Tensor& dbias);

}  // namespace weft::kernels
