#include "worker/model/norm.h"

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/layer_norm/layer_norm.h"
#include "kernels/ops/rms_norm/rms_norm.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::NewTensor;
using kernels::Tensor;

Norm::Norm(NormKind kind, absl::string_view prefix, int64_t width, double epsilon,
           ParameterLayout& layout)
    : epsilon_(epsilon), weight_(layout.AddNorm(absl::StrCat(prefix, ".weight"), width)) {
  if (kind == NormKind::kLayer) {
    shift_ = layout.AddNormShift(absl::StrCat(prefix, ".bias"), width);
  }
}

absl::StatusOr<NormStatistics> Norm::NewStatistics(kernels::Device& device, int64_t rows) const {
  NormStatistics statistics;
  const kernels::DType dtype = device.sum_dtype();
  WEFT_ASSIGN_OR_RETURN(statistics.rstd, NewTensor(device, dtype, {rows}));
  if (shift_) {
    WEFT_ASSIGN_OR_RETURN(statistics.mean, NewTensor(device, dtype, {rows}));
  }
  return statistics;
}

absl::Status Norm::Forward(const Pass& pass, const Tensor& x, NormStatistics& statistics,
                           Tensor& y) const {
  const Tensor weight = pass.weights[weight_];
  if (!shift_) {
    return kernels::RmsNormForward(pass.stream, x, weight, epsilon_, y, statistics.rstd);
  }
  return kernels::LayerNormForward(pass.stream, x, weight, pass.weights[*shift_], epsilon_, y,
                                   statistics.mean, statistics.rstd);
}

absl::Status Norm::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                            const NormStatistics& statistics, const Tensor& dy,
                            Accumulate accumulate, Tensor& dx, Tensor dx_sums) const {
  const Tensor weight = pass.weights[weight_];
  Tensor d_weight = gradients[weight_];
  if (!shift_) {
    return kernels::RmsNormBackward(pass.stream, x, weight, statistics.rstd, dy, dx, accumulate,
                                    d_weight, dx_sums);
  }
  Tensor d_shift = gradients[*shift_];
  return kernels::LayerNormBackward(pass.stream, x, weight, statistics.mean, statistics.rstd, dy,
                                    dx, accumulate, d_weight, d_shift, dx_sums);
}

}  // namespace weft::worker
