#include "worker/model/mlp.h"

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/geglu/geglu.h"
#include "kernels/ops/gelu/gelu.h"
#include "kernels/ops/swiglu/swiglu.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::GeluForm;
using kernels::Tensor;

namespace {

std::optional<Linear> Gate(const MlpOptions& options, absl::string_view prefix,
                           ParameterLayout& layout) {
  if (options.kind == MlpKind::kGelu || options.kind == MlpKind::kGeluTanh) return std::nullopt;
  return Linear(absl::StrCat(prefix, ".gate"), options.width, options.hidden, options.bias, layout);
}

}  // namespace

Mlp::Mlp(const MlpOptions& options, absl::string_view prefix, ParameterLayout& layout)
    : kind_(options.kind),
      hidden_(options.hidden),
      dropout_(options.hidden_dropout, options.layer, DropoutSite::kMlpHidden),
      gate_(Gate(options, prefix, layout)),
      up_(absl::StrCat(prefix, ".up"), options.width, hidden_, options.bias, layout),
      down_(absl::StrCat(prefix, ".down"), hidden_, options.width, options.bias, layout) {}

int64_t Mlp::MatmulFlopsPerToken() const {
  return (gate_ ? gate_->FlopsPerRow() : 0) + up_.FlopsPerRow() + down_.FlopsPerRow();
}

absl::StatusOr<MlpActivations> Mlp::NewActivations(kernels::Device& device, PassShape shape) const {
  MlpActivations a;
  for (Tensor* tensor : {&a.gate, &a.up, &a.product}) {
    if (tensor == &a.gate && !gate_) continue;
    WEFT_ASSIGN_OR_RETURN(*tensor, kernels::NewTensor(device, device.compute_dtype(),
                                                      {shape.batch, shape.tokens, hidden_}));
  }
  return a;
}

absl::Status Mlp::Activate(const Pass& pass, MlpActivations& a) const {
  switch (kind_) {
    case MlpKind::kSwiglu:
      return kernels::SwigluForward(pass.stream, a.gate, a.up, a.product);
    case MlpKind::kGeglu:
      return kernels::GegluForward(pass.stream, GeluForm::kTanh, a.gate, a.up, a.product);
    case MlpKind::kGelu:
      return kernels::GeluForward(pass.stream, GeluForm::kExact, a.up, a.product);
    case MlpKind::kGeluTanh:
      break;  // within the products
  }
  return absl::OkStatus();
}

absl::Status Mlp::ActivateBackward(const Pass& pass, const MlpActivations& a,
                                   const Tensor& d_product, Tensor& d_gate, Tensor& d_up) const {
  switch (kind_) {
    case MlpKind::kSwiglu:
      return kernels::SwigluBackward(pass.stream, a.gate, a.up, d_product, d_gate, d_up);
    case MlpKind::kGeglu:
      return kernels::GegluBackward(pass.stream, GeluForm::kTanh, a.gate, a.up, d_product, d_gate,
                                    d_up);
    case MlpKind::kGelu:
      return kernels::GeluBackward(pass.stream, GeluForm::kExact, a.up, d_product, d_up);
    case MlpKind::kGeluTanh:
      break;
  }
  return absl::OkStatus();
}

absl::Status Mlp::Forward(const Pass& pass, const Tensor& x, MlpActivations& a,
                          const Tensor& residual, Tensor& y) const {
  if (kind_ == MlpKind::kGeluTanh) {
    WEFT_RETURN_IF_ERROR(up_.ForwardGelu(pass, x, a.up, a.product));
  } else {
    if (gate_) WEFT_RETURN_IF_ERROR(gate_->Forward(pass, x, a.gate));
    WEFT_RETURN_IF_ERROR(up_.Forward(pass, x, a.up));
    WEFT_RETURN_IF_ERROR(Activate(pass, a));
  }
  WEFT_RETURN_IF_ERROR(dropout_.Apply(pass, a.product));
  return down_.Forward(pass, a.product, residual, y);
}

absl::Status Mlp::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                           const MlpActivations& a, const Tensor& dy, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_up, pass.scratch.Take(a.up.shape()));
  if (kind_ == MlpKind::kGeluTanh) {
    // What dropout multiplies with and the slope of the GELU are factors of each element, but the
    // sums for the bias come after both.
    const bool drops = dropout_.IsOn(pass);
    Tensor d_bias = drops ? Tensor() : up_.BiasIn(gradients);
    WEFT_RETURN_IF_ERROR(
        down_.BackwardGeluButBias(pass, gradients, a.product, dy, a.up, d_up, d_bias));
    if (!drops) return up_.BackwardButBias(pass, gradients, x, d_up, Accumulate::kNo, dx);
    WEFT_RETURN_IF_ERROR(dropout_.Apply(pass, d_up));
    return up_.Backward(pass, gradients, x, d_up, Accumulate::kNo, dx);
  }
  WEFT_ASSIGN_OR_RETURN(Tensor d_product, pass.scratch.Take(a.product.shape()));
  WEFT_RETURN_IF_ERROR(
      down_.BackwardButBias(pass, gradients, a.product, dy, Accumulate::kNo, d_product));
  WEFT_RETURN_IF_ERROR(dropout_.Apply(pass, d_product));
  if (!gate_) {
    Tensor no_gate;
    WEFT_RETURN_IF_ERROR(ActivateBackward(pass, a, d_product, no_gate, d_up));
    return up_.Backward(pass, gradients, x, d_up, Accumulate::kNo, dx);
  }
  WEFT_ASSIGN_OR_RETURN(Tensor d_gate, pass.scratch.Take(a.gate.shape()));
  WEFT_RETURN_IF_ERROR(ActivateBackward(pass, a, d_product, d_gate, d_up));
  WEFT_RETURN_IF_ERROR(gate_->Backward(pass, gradients, x, d_gate, Accumulate::kNo, dx));
  return up_.Backward(pass, gradients, x, d_up, Accumulate::kYes, dx);
}

}  // namespace weft::worker
