#include "worker/model/language_model.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/ops/rms_norm/rms_norm.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Device;
using kernels::NewTensor;
using kernels::Tensor;

absl::StatusOr<std::unique_ptr<const LanguageModel>> LanguageModel::Create(
    const ModelConfig& config) {
  WEFT_RETURN_IF_ERROR(Validate(config));
  return absl::WrapUnique(new LanguageModel(config));
}

LanguageModel::LanguageModel(ModelConfig config) : config_(std::move(config)) {
  embedding_weight_ = layout_.AddWeight("embedding.weight", {config_.vocabulary, config_.width});
  for (size_t i = 0; i < config_.layers.size(); ++i) {
    blocks_.push_back(
        std::make_unique<const Block>(config_, i, absl::StrCat("layers.", i), layout_));
  }
  final_norm_offset_ = layout_.block_count();
  final_norm_weight_ = layout_.AddNorm("final_norm.weight", config_.width);
  head_weight_ = layout_.AddWeight("head.weight", {config_.vocabulary, config_.width});
}

absl::Status LanguageModel::Supports(const Device& device, PassShape shape) const {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    WEFT_RETURN_IF_ERROR(Annotate(blocks_[i]->mixer().Supports(device, shape),
                                  absl::StrCat("layer ", i, " (", NameOf(config_.layers[i]), ")")));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ModelActivations>> LanguageModel::NewActivations(
    Device& device, PassShape shape) const {
  const kernels::DType dtype = device.compute_dtype();
  const kernels::Shape stream_shape = {shape.batch, shape.tokens, config_.width};
  auto a = std::make_unique<ModelActivations>();
  a->shape = shape;
  for (const auto& block : blocks_) {
    WEFT_ASSIGN_OR_RETURN(BlockActivations activations, block->NewActivations(device, shape));
    a->blocks.push_back(std::move(activations));
  }
  for (size_t i = 0; i <= blocks_.size(); ++i) {
    WEFT_ASSIGN_OR_RETURN(Tensor residual, NewTensor(device, dtype, stream_shape));
    a->residual.push_back(std::move(residual));
  }
  WEFT_ASSIGN_OR_RETURN(a->head_in, NewTensor(device, dtype, stream_shape));
  WEFT_ASSIGN_OR_RETURN(a->gradient, NewTensor(device, dtype, stream_shape));
  WEFT_ASSIGN_OR_RETURN(a->head_rstd, NewTensor(device, dtype, {shape.batch * shape.tokens}));
  return a;
}

absl::Status LanguageModel::Hidden(const Pass& pass, const TokenBatch& batch,
                                   ModelActivations& a) const {
  WEFT_RETURN_IF_ERROR(kernels::EmbeddingForward(
      pass.stream, batch.tokens, pass.weights[embedding_weight_], a.residual.front()));
  for (size_t i = 0; i < blocks_.size(); ++i) {
    WEFT_RETURN_IF_ERROR(blocks_[i]->Forward(pass, a.residual[i], a.blocks[i], a.residual[i + 1]));
  }
  return kernels::RmsNormForward(pass.stream, a.residual.back(), pass.weights[final_norm_weight_],
                                 config_.norm_epsilon, a.head_in, a.head_rstd);
}

absl::Status LanguageModel::Losses(const Pass& pass, const TokenBatch& batch, ModelActivations& a,
                                   Tensor& losses) const {
  WEFT_RETURN_IF_ERROR(Hidden(pass, batch, a));
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor right, pass.scratch.Take(losses.shape()));
  return kernels::LinearCrossEntropyForward(pass.stream, a.head_in, pass.weights[head_weight_],
                                            Tensor(), batch.targets, losses, right);
}

absl::Status LanguageModel::LossesAndGradients(const Pass& pass, const TokenBatch& batch,
                                               double gradient_scale,
                                               const ParameterBlock& gradients, ModelActivations& a,
                                               Tensor& losses, OnReady on_ready) const {
  WEFT_RETURN_IF_ERROR(Hidden(pass, batch, a));
  {
    Scratch::Frame frame(pass.scratch);
    WEFT_ASSIGN_OR_RETURN(Tensor d_head_in, pass.scratch.Take(a.head_in.shape()));
    Tensor d_head = gradients[head_weight_];
    WEFT_ASSIGN_OR_RETURN(Tensor right, pass.scratch.Take(losses.shape()));
    Tensor no_bias;
    WEFT_RETURN_IF_ERROR(kernels::LinearCrossEntropyForwardBackward(
        pass.stream, a.head_in, pass.weights[head_weight_], no_bias, batch.targets, gradient_scale,
        losses, right, d_head_in, d_head, no_bias));
    Tensor d_norm = gradients[final_norm_weight_];
    WEFT_RETURN_IF_ERROR(kernels::RmsNormBackward(pass.stream, a.residual.back(),
                                                  pass.weights[final_norm_weight_], a.head_rstd,
                                                  d_head_in, a.gradient, Accumulate::kNo, d_norm));
  }
  on_ready(final_norm_offset_);
  for (size_t i = blocks_.size(); i-- > 0;) {
    WEFT_RETURN_IF_ERROR(
        blocks_[i]->Backward(pass, gradients, a.residual[i], a.blocks[i], a.gradient));
    on_ready(blocks_[i]->first_element());
  }
  Tensor d_embedding = gradients[embedding_weight_];
  WEFT_RETURN_IF_ERROR(
      kernels::EmbeddingBackward(pass.stream, batch.tokens, a.gradient, d_embedding));
  on_ready(0);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DecodingState>> LanguageModel::NewDecodingState(
    Device& device, int64_t max_tokens) const {
  const kernels::DType dtype = device.compute_dtype();
  auto state = std::make_unique<DecodingState>();
  for (const auto& block : blocks_) {
    WEFT_ASSIGN_OR_RETURN(BlockState block_state, block->NewState(device, max_tokens));
    state->blocks.push_back(std::move(block_state));
  }
  WEFT_ASSIGN_OR_RETURN(state->token, NewTensor(device, kernels::DType::kI32, {1, 1}));
  WEFT_ASSIGN_OR_RETURN(state->residual, NewTensor(device, dtype, {1, 1, config_.width}));
  WEFT_ASSIGN_OR_RETURN(state->next_residual, NewTensor(device, dtype, {1, 1, config_.width}));
  WEFT_ASSIGN_OR_RETURN(state->rstd, NewTensor(device, dtype, {1}));
  return state;
}

absl::Status LanguageModel::Decode(const Pass& pass, DecodingState& state, Tensor& logits) const {
  WEFT_RETURN_IF_ERROR(kernels::EmbeddingForward(pass.stream, state.token,
                                                 pass.weights[embedding_weight_], state.residual));
  for (size_t i = 0; i < blocks_.size(); ++i) {
    WEFT_RETURN_IF_ERROR(
        blocks_[i]->Decode(pass, state.residual, state.blocks[i], state.next_residual));
    std::swap(state.residual, state.next_residual);
  }
  WEFT_RETURN_IF_ERROR(
      kernels::RmsNormForward(pass.stream, state.residual, pass.weights[final_norm_weight_],
                              config_.norm_epsilon, state.next_residual, state.rstd));
  return kernels::LinearForward(pass.stream, state.next_residual, pass.weights[head_weight_],
                                logits);
}

int64_t LanguageModel::TrainingMatmulFlopsPerToken() const {
  int64_t forward = 2 * config_.vocabulary * config_.width;
  for (const auto& block : blocks_) forward += block->MatmulFlopsPerToken();
  return 3 * forward;
}

}  // namespace weft::worker
