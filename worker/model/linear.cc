#include "worker/model/linear.h"

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_gelu/linear_gelu.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Tensor;

namespace {

Tensor AsRows(const Tensor& tensor, int64_t width) {
  return tensor.Reshaped({tensor.count() / width, width});
}

}  // namespace

Linear::Linear(absl::string_view prefix, int64_t in, int64_t out, bool bias,
               ParameterLayout& layout)
    : in_(in), out_(out), weight_(layout.AddWeight(absl::StrCat(prefix, ".weight"), {out, in})) {
  if (bias) bias_ = layout.AddBias(absl::StrCat(prefix, ".bias"), out, in);
}

absl::Status Linear::Forward(const Pass& pass, const Tensor& x, const Tensor& residual,
                             Tensor& y) const {
  Tensor rows = AsRows(y, out_);
  return kernels::LinearForward(pass.stream, AsRows(x, in_), pass.weights[weight_],
                                BiasIn(pass.weights),
                                residual.present() ? AsRows(residual, out_) : Tensor(), rows);
}

absl::Status Linear::ForwardGelu(const Pass& pass, const Tensor& x, Tensor& before,
                                 Tensor& y) const {
  Tensor before_rows = AsRows(before, out_);
  Tensor rows = AsRows(y, out_);
  return kernels::LinearGeluForward(pass.stream, AsRows(x, in_), pass.weights[weight_],
                                    BiasIn(pass.weights), before_rows, rows);
}

absl::Status Linear::WeightBackward(const Pass& pass, const ParameterBlock& gradients,
                                    const Tensor& x, const Tensor& dy) const {
  Tensor d_weight = gradients[weight_];
  return kernels::LinearBackwardWeight(pass.stream, AsRows(dy, out_), AsRows(x, in_), d_weight);
}

absl::Status Linear::BackwardButBias(const Pass& pass, const ParameterBlock& gradients,
                                     const Tensor& x, const Tensor& dy, Accumulate accumulate,
                                     Tensor& dx) const {
  WEFT_RETURN_IF_ERROR(WeightBackward(pass, gradients, x, dy));
  Tensor dx_rows = AsRows(dx, in_);
  return kernels::LinearBackwardInput(pass.stream, AsRows(dy, out_), pass.weights[weight_], dx_rows,
                                      accumulate);
}

absl::Status Linear::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                              const Tensor& dy, Accumulate accumulate, Tensor& dx) const {
  Tensor d_bias = BiasIn(gradients);
  if (bias_) WEFT_RETURN_IF_ERROR(kernels::BiasBackward(pass.stream, AsRows(dy, out_), d_bias));
  return BackwardButBias(pass, gradients, x, dy, accumulate, dx);
}

absl::Status Linear::BackwardGeluButBias(const Pass& pass, const ParameterBlock& gradients,
                                         const Tensor& x, const Tensor& dy, const Tensor& before,
                                         Tensor& d_before, Tensor& d_before_bias) const {
  WEFT_RETURN_IF_ERROR(WeightBackward(pass, gradients, x, dy));
  Tensor d_rows = AsRows(d_before, in_);
  return kernels::LinearBackwardGelu(pass.stream, AsRows(dy, out_), pass.weights[weight_],
                                     AsRows(before, in_), d_rows, d_before_bias);
}

}  // namespace weft::worker
