#include "worker/model/sublayer.h"

#include "common/base/status_macros.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/elementwise/elementwise.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Tensor;

Sublayer::Sublayer(const ModelConfig& config, int64_t layer, DropoutSite site,
                   absl::string_view norm_prefix, ParameterLayout& layout)
    : width_(config.width),
      placement_(config.norm_placement),
      norm_(config.norm, norm_prefix, config.width, config.norm_epsilon, layout),
      dropout_(config.dropout.sublayer, layer, site) {}

absl::StatusOr<SublayerActivations> Sublayer::NewActivations(kernels::Device& device,
                                                             PassShape shape) const {
  SublayerActivations a;
  WEFT_ASSIGN_OR_RETURN(a.edge, kernels::NewTensor(device, device.compute_dtype(),
                                                   {shape.batch, shape.tokens, width_}));
  WEFT_ASSIGN_OR_RETURN(a.statistics, norm_.NewStatistics(device, shape.batch * shape.tokens));
  return a;
}

absl::Status Sublayer::Forward(const Pass& pass, const Tensor& x, Forwards f,
                               SublayerActivations& a, Tensor& y) const {
  Scratch::Frame frame(pass.scratch);
  if (placement_ == NormPlacement::kInput) {
    WEFT_RETURN_IF_ERROR(norm_.Forward(pass, x, a.statistics, a.edge));
    // The last product of f adds x before it rounds its result.
    if (!dropout_.IsOn(pass)) return f(a.edge, x, y);
  }
  WEFT_ASSIGN_OR_RETURN(Tensor change, pass.scratch.Take(x.shape()));
  const Tensor none;
  if (placement_ == NormPlacement::kInput) {
    WEFT_RETURN_IF_ERROR(f(a.edge, none, change));
    WEFT_RETURN_IF_ERROR(dropout_.Apply(pass, change));
  } else {
    WEFT_RETURN_IF_ERROR(f(x, none, a.edge));
    WEFT_RETURN_IF_ERROR(dropout_.Apply(pass, a.edge));
    WEFT_RETURN_IF_ERROR(norm_.Forward(pass, a.edge, a.statistics, change));
  }
  return kernels::Add(pass.stream, x, change, y);
}

absl::Status Sublayer::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                                Backwards f, Tensor d_bias, SublayerActivations& a,
                                Tensor& gradient) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_in, pass.scratch.Take(x.shape()));
  if (placement_ == NormPlacement::kInput && !dropout_.IsOn(pass)) {
    WEFT_RETURN_IF_ERROR(f(a.edge, gradient, d_in));
    // `gradient` is still d_out, and the norm reads it to add to it.
    return norm_.Backward(pass, gradients, x, a.statistics, d_in, Accumulate::kYes, gradient,
                          d_bias);
  }
  // A dropout or a norm changes d_out; the residual connection still needs dy.
  WEFT_ASSIGN_OR_RETURN(Tensor d_out, pass.scratch.Take(x.shape()));
  if (placement_ == NormPlacement::kInput) {
    WEFT_RETURN_IF_ERROR(kernels::Copy(pass.stream, gradient, d_out));
  } else {
    WEFT_RETURN_IF_ERROR(
        norm_.Backward(pass, gradients, a.edge, a.statistics, gradient, Accumulate::kNo, d_out));
  }
  WEFT_RETURN_IF_ERROR(dropout_.Apply(pass, d_out));
  if (d_bias.present()) WEFT_RETURN_IF_ERROR(kernels::BiasBackward(pass.stream, d_out, d_bias));
  if (placement_ == NormPlacement::kInput) {
    WEFT_RETURN_IF_ERROR(f(a.edge, d_out, d_in));
    return norm_.Backward(pass, gradients, x, a.statistics, d_in, Accumulate::kYes, gradient);
  }
  WEFT_RETURN_IF_ERROR(f(x, d_out, d_in));
  return kernels::Add(pass.stream, gradient, d_in, gradient);
}

}  // namespace weft::worker
