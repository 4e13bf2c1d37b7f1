// The vocabulary projection and the cross entropy of its softmax in one: for row r with target t,
//   losses[r] = log(sum over v of exp(h_r . w_v)) - h_r . w_t.
// Never holds more than a block of rows of logits. R rows, C channels, V tokens in the vocabulary.
//
// A target < 0 means: not a training example; its loss is 0 and it has no gradient. A target >= V
// is kInvalidArgument that names the row.
#pragma once

#include "absl/status/status.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// h[R,C] (any rank with C innermost), w[V,C], targets i32[R] (any rank) -> losses[R] (the shape of
// targets).
absl::Status LinearCrossEntropyForward(Stream& stream, const Tensor& h, const Tensor& w,
                                       const Tensor& targets, Tensor& losses);

// The same, and in the same pass the gradient of gradient_scale * sum(losses): dh[R,C] is
// overwritten, dw[V,C] is added to. gradient_scale is 1 / (tokens of the whole batch) for a mean.
absl::Status LinearCrossEntropyForwardBackward(Stream& stream, const Tensor& h, const Tensor& w,
                                               const Tensor& targets, double gradient_scale,
                                               Tensor& losses, Tensor& dh, Tensor& dw);

}  // namespace weft::kernels
