#include "worker/model/block.h"

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/rms_norm/rms_norm.h"
#include "kernels/ops/swiglu/swiglu.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Device;
using kernels::NewTensor;
using kernels::Tensor;

Block::Block(const ModelConfig& config, size_t layer, absl::string_view prefix,
             ParameterLayout& layout)
    : width_(config.width),
      hidden_(config.hidden),
      norm_epsilon_(config.norm_epsilon),
      first_element_(layout.block_count()),
      mixer_norm_(layout.AddNorm(absl::StrCat(prefix, ".mixer_norm.weight"), width_)),
      mixer_(NewMixer(config.layers[layer], PlaceOf(config, layer), absl::StrCat(prefix, ".mixer"),
                      layout)),
      mlp_norm_(layout.AddNorm(absl::StrCat(prefix, ".mlp_norm.weight"), width_)),
      gate_(absl::StrCat(prefix, ".mlp.gate"), width_, hidden_, /*bias=*/false, layout),
      up_(absl::StrCat(prefix, ".mlp.up"), width_, hidden_, /*bias=*/false, layout),
      down_(absl::StrCat(prefix, ".mlp.down"), hidden_, width_, /*bias=*/false, layout) {}

int64_t Block::MatmulFlopsPerToken() const {
  return mixer_->MatmulFlopsPerToken() + gate_.FlopsPerRow() + up_.FlopsPerRow() +
         down_.FlopsPerRow();
}

absl::Status Block::Allocate(Device& device, PassShape shape, BlockActivations& a) const {
  const kernels::DType dtype = device.compute_dtype();
  const auto [batch, tokens] = shape;
  for (Tensor* tensor : {&a.mixer_in, &a.middle, &a.mlp_in}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, {batch, tokens, width_}));
  }
  for (Tensor* tensor : {&a.mixer_rstd, &a.mlp_rstd}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, {batch * tokens}));
  }
  for (Tensor* tensor : {&a.gate, &a.up, &a.product}) {
    WEFT_ASSIGN_OR_RETURN(*tensor, NewTensor(device, dtype, {batch, tokens, hidden_}));
  }
  return absl::OkStatus();
}

absl::StatusOr<BlockActivations> Block::NewActivations(Device& device, PassShape shape) const {
  BlockActivations activations;
  WEFT_RETURN_IF_ERROR(Allocate(device, shape, activations));
  WEFT_ASSIGN_OR_RETURN(activations.mixer, mixer_->NewActivations(device, shape));
  return activations;
}

absl::Status Block::MlpForward(const Pass& pass, BlockActivations& a, Tensor& y) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor mlp_out, pass.scratch.Take(y.shape()));
  kernels::Stream& stream = pass.stream;
  WEFT_RETURN_IF_ERROR(kernels::RmsNormForward(stream, a.middle, pass.weights[mlp_norm_],
                                               norm_epsilon_, a.mlp_in, a.mlp_rstd));
  WEFT_RETURN_IF_ERROR(gate_.Forward(pass, a.mlp_in, a.gate));
  WEFT_RETURN_IF_ERROR(up_.Forward(pass, a.mlp_in, a.up));
  WEFT_RETURN_IF_ERROR(kernels::SwigluForward(stream, a.gate, a.up, a.product));
  WEFT_RETURN_IF_ERROR(down_.Forward(pass, a.product, mlp_out));
  return kernels::Add(stream, a.middle, mlp_out, y);
}

absl::Status Block::Forward(const Pass& pass, const Tensor& x, BlockActivations& a,
                            Tensor& y) const {
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor mixer_out, pass.scratch.Take(x.shape()));
  WEFT_RETURN_IF_ERROR(kernels::RmsNormForward(pass.stream, x, pass.weights[mixer_norm_],
                                               norm_epsilon_, a.mixer_in, a.mixer_rstd));
  WEFT_RETURN_IF_ERROR(mixer_->Forward(pass, a.mixer_in, *a.mixer, mixer_out));
  WEFT_RETURN_IF_ERROR(kernels::Add(pass.stream, x, mixer_out, a.middle));
  return MlpForward(pass, a, y);
}

absl::Status Block::MlpBackward(const Pass& pass, const ParameterBlock& gradients,
                                BlockActivations& a, Tensor& gradient) const {
  Scratch::Frame frame(pass.scratch);
  kernels::Stream& stream = pass.stream;
  WEFT_ASSIGN_OR_RETURN(Tensor d_product, pass.scratch.Take(a.product.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor d_gate, pass.scratch.Take(a.gate.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor d_up, pass.scratch.Take(a.up.shape()));
  WEFT_ASSIGN_OR_RETURN(Tensor d_mlp_in, pass.scratch.Take(a.mlp_in.shape()));

  WEFT_RETURN_IF_ERROR(
      down_.Backward(pass, gradients, a.product, gradient, Accumulate::kNo, d_product));
  WEFT_RETURN_IF_ERROR(kernels::SwigluBackward(stream, a.gate, a.up, d_product, d_gate, d_up));
  WEFT_RETURN_IF_ERROR(
      gate_.Backward(pass, gradients, a.mlp_in, d_gate, Accumulate::kNo, d_mlp_in));
  WEFT_RETURN_IF_ERROR(up_.Backward(pass, gradients, a.mlp_in, d_up, Accumulate::kYes, d_mlp_in));
  Tensor d_norm = gradients[mlp_norm_];
  return kernels::RmsNormBackward(stream, a.middle, pass.weights[mlp_norm_], a.mlp_rstd, d_mlp_in,
                                  gradient, Accumulate::kYes, d_norm);
}

absl::Status Block::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                             BlockActivations& a, Tensor& gradient) const {
  WEFT_RETURN_IF_ERROR(MlpBackward(pass, gradients, a, gradient));
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_mixer_in, pass.scratch.Take(x.shape()));
  WEFT_RETURN_IF_ERROR(
      mixer_->Backward(pass, gradients, a.mixer_in, *a.mixer, gradient, d_mixer_in));
  Tensor d_norm = gradients[mixer_norm_];
  return kernels::RmsNormBackward(pass.stream, x, pass.weights[mixer_norm_], a.mixer_rstd,
                                  d_mixer_in, gradient, Accumulate::kYes, d_norm);
}

absl::StatusOr<BlockState> Block::NewState(Device& device, int64_t max_tokens) const {
  BlockState state;
  WEFT_RETURN_IF_ERROR(Allocate(device, {.batch = 1, .tokens = 1}, state.step));
  WEFT_ASSIGN_OR_RETURN(state.mixer, mixer_->NewState(device, max_tokens));
  return state;
}

absl::Status Block::Decode(const Pass& pass, const Tensor& x, BlockState& state, Tensor& y) const {
  Scratch::Frame frame(pass.scratch);
  BlockActivations& a = state.step;
  WEFT_ASSIGN_OR_RETURN(Tensor mixer_out, pass.scratch.Take(x.shape()));
  WEFT_RETURN_IF_ERROR(kernels::RmsNormForward(pass.stream, x, pass.weights[mixer_norm_],
                                               norm_epsilon_, a.mixer_in, a.mixer_rstd));
  WEFT_RETURN_IF_ERROR(mixer_->Decode(pass, a.mixer_in, *state.mixer, mixer_out));
  WEFT_RETURN_IF_ERROR(kernels::Add(pass.stream, x, mixer_out, a.middle));
  return MlpForward(pass, a, y);
}

}  // namespace weft::worker
