#include "worker/model/linear.h"

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/linear/linear.h"

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
                                bias_ ? pass.weights[*bias_] : Tensor(),
                                residual.present() ? AsRows(residual, out_) : Tensor(), rows);
}

absl::Status Linear::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                              const Tensor& dy, Accumulate accumulate, Tensor& dx) const {
  const Tensor dy_rows = AsRows(dy, out_);
  Tensor d_weight = gradients[weight_];
  WEFT_RETURN_IF_ERROR(
      kernels::LinearBackwardWeight(pass.stream, dy_rows, AsRows(x, in_), d_weight));
  if (bias_) {
    Tensor d_bias = gradients[*bias_];
    WEFT_RETURN_IF_ERROR(kernels::BiasBackward(pass.stream, dy_rows, d_bias));
  }
  Tensor dx_rows = AsRows(dx, in_);
  return kernels::LinearBackwardInput(pass.stream, dy_rows, pass.weights[weight_], dx_rows,
                                      accumulate);
}

}  // namespace weft::worker
