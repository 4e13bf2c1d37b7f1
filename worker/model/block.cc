#include "worker/model/block.h"

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {

using kernels::Device;
using kernels::Tensor;

Block::Block(const ModelConfig& config, size_t layer, absl::string_view prefix,
             ParameterLayout& layout)
    : width_(config.width),
      mixer_config_(config.layers[layer]),
      first_element_(layout.block_count()),
      around_mixer_(config, static_cast<int64_t>(layer), DropoutSite::kMixer,
                    absl::StrCat(prefix, ".mixer_norm"), layout),
      mixer_(NewMixer(config.layers[layer], PlaceOf(config, layer), absl::StrCat(prefix, ".mixer"),
                      layout)),
      first_of_mlp_(layout.block_count()),
      around_mlp_(config, static_cast<int64_t>(layer), DropoutSite::kMlp,
                  absl::StrCat(prefix, ".mlp_norm"), layout),
      mlp_({.kind = config.mlp,
            .width = config.width,
            .hidden = config.hidden,
            .bias = config.biases.mlp,
            .hidden_dropout = config.dropout.mlp_hidden,
            .layer = static_cast<int64_t>(layer)},
           absl::StrCat(prefix, ".mlp"), layout) {}

int64_t Block::MatmulFlopsPerToken() const {
  return mixer_->MatmulFlopsPerToken() + mlp_.MatmulFlopsPerToken();
}

absl::StatusOr<BlockActivations> Block::NewOwnActivations(Device& device, PassShape shape) const {
  BlockActivations a;
  WEFT_ASSIGN_OR_RETURN(a.around_mixer, around_mixer_.NewActivations(device, shape));
  WEFT_ASSIGN_OR_RETURN(a.around_mlp, around_mlp_.NewActivations(device, shape));
  WEFT_ASSIGN_OR_RETURN(a.middle, kernels::NewTensor(device, device.compute_dtype(),
                                                     {shape.batch, shape.tokens, width_}));
  WEFT_ASSIGN_OR_RETURN(a.mlp, mlp_.NewActivations(device, shape));
  return a;
}

absl::StatusOr<BlockActivations> Block::NewActivations(Device& device, PassShape shape) const {
  WEFT_ASSIGN_OR_RETURN(BlockActivations a, NewOwnActivations(device, shape));
  WEFT_ASSIGN_OR_RETURN(a.mixer, mixer_->NewActivations(device, shape));
  return a;
}

absl::Status Block::Forward(const Pass& pass, const Tensor& x, Sublayer::Forwards mix,
                            BlockActivations& a, Tensor& y) const {
  WEFT_RETURN_IF_ERROR(around_mixer_.Forward(pass, x, mix, a.around_mixer, a.middle));
  return around_mlp_.Forward(
      pass, a.middle,
      [&](const Tensor& in, const Tensor& residual, Tensor& out) {
        return mlp_.Forward(pass, in, a.mlp, residual, out);
      },
      a.around_mlp, y);
}

absl::Status Block::Forward(const Pass& pass, const Tensor& x, BlockActivations& a,
                            Tensor& y) const {
  return Forward(
      pass, x,
      [&](const Tensor& in, const Tensor& residual, Tensor& out) {
        return mixer_->Forward(pass, in, *a.mixer, residual, out);
      },
      a, y);
}

absl::Status Block::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                             Sublayer::Backwards mix, BlockActivations& a, Tensor& gradient,
                             OnReady on_ready) const {
  WEFT_RETURN_IF_ERROR(around_mlp_.Backward(
      pass, gradients, a.middle,
      [&](const Tensor& in, const Tensor& d_out, Tensor& d_in) {
        return mlp_.Backward(pass, gradients, in, a.mlp, d_out, d_in);
      },
      mlp_.OutputBiasIn(gradients), a.around_mlp, gradient));
  on_ready(first_of_mlp_);
  WEFT_RETURN_IF_ERROR(around_mixer_.Backward(
      pass, gradients, x, mix, mixer_->OutputBiasIn(gradients), a.around_mixer, gradient));
  on_ready(first_element_);
  return absl::OkStatus();
}

absl::Status Block::Backward(const Pass& pass, const ParameterBlock& gradients, const Tensor& x,
                             BlockActivations& a, Tensor& gradient, OnReady on_ready) const {
  return Backward(
      pass, gradients, x,
      [&](const Tensor& in, const Tensor& d_out, Tensor& d_in) {
        return mixer_->Backward(pass, gradients, in, *a.mixer, d_out, d_in);
      },
      a, gradient, on_ready);
}

absl::Status Block::ForwardSlice(const Pass& pass, const Tensor& x, SliceStep step,
                                 Boundary& boundary, BlockActivations& a, Tensor& y) const {
  WEFT_ASSIGN_OR_RETURN(const SlicedMixer* const mixer, sliced_mixer());
  return Forward(
      pass, x,
      [&](const Tensor& in, const Tensor& residual, Tensor& out) {
        return mixer->ForwardSlice(pass, in, step, boundary, *a.mixer, residual, out);
      },
      a, y);
}

absl::Status Block::BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                                  const Tensor& x, const Boundary& before, BlockActivations& a,
                                  Boundary& boundary_gradient, Tensor& gradient,
                                  OnReady on_ready) const {
  WEFT_ASSIGN_OR_RETURN(const SlicedMixer* const mixer, sliced_mixer());
  return Backward(
      pass, gradients, x,
      [&](const Tensor& in, const Tensor& d_out, Tensor& d_in) {
        return mixer->BackwardSlice(pass, gradients, in, before, *a.mixer, d_out, boundary_gradient,
                                    d_in);
      },
      a, gradient, on_ready);
}

absl::StatusOr<BlockState> Block::NewState(Device& device, int64_t max_tokens) const {
  BlockState state;
  WEFT_ASSIGN_OR_RETURN(state.step, NewOwnActivations(device, {.batch = 1, .tokens = 1}));
  WEFT_ASSIGN_OR_RETURN(state.mixer, mixer_->NewState(device, max_tokens));
  return state;
}

absl::Status Block::Decode(const Pass& pass, const Tensor& x, BlockState& state, Tensor& y) const {
  return Forward(
      pass, x,
      [&](const Tensor& in, const Tensor& residual, Tensor& out) {
        return mixer_->Decode(pass, in, *state.mixer, residual, out);
      },
      state.step, y);
}

}  // namespace weft::worker
