#include "worker/model/language_model.h"

#include <utility>

#include "absl/memory/memory.h"
#include "common/base/status_macros.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"

namespace weft::worker {

using kernels::Device;
using kernels::Tensor;

struct LanguageModel::Activations final : ModelActivations {
  TrunkActivations trunk;
};

absl::StatusOr<std::unique_ptr<const LanguageModel>> LanguageModel::Create(
    const ModelConfig& config) {
  WEFT_RETURN_IF_ERROR(Validate(config));
  if (HasOneTarget(config)) {
    return absl::InvalidArgumentError("a classifier of sequences has no target at each position");
  }
  return absl::WrapUnique(new LanguageModel(config));
}

LanguageModel::LanguageModel(ModelConfig config)
    : config_(std::move(config)), layout_(config_.weights), trunk_(config_, layout_) {
  const int64_t classes = ClassesOf(config_);
  head_weight_ = config_.tied ? trunk_.embedding().weight()
                              : layout_.AddWeight("head.weight", {classes, config_.width});
  if (config_.biases.logits) head_bias_ = layout_.AddBias("head.bias", classes, config_.width);
}

absl::Status LanguageModel::Supports(const Device& device, PassShape shape) const {
  return trunk_.Supports(device, shape);
}

absl::StatusOr<std::unique_ptr<ModelActivations>> LanguageModel::NewActivations(
    Device& device, PassShape shape) const {
  auto a = std::make_unique<Activations>();
  WEFT_ASSIGN_OR_RETURN(a->trunk, trunk_.NewActivations(device, shape));
  return a;
}

Tensor LanguageModel::BiasIn(const ParameterBlock& block) const {
  return head_bias_ ? block[*head_bias_] : Tensor();
}

absl::Status LanguageModel::HeadForward(const Pass& pass, const Tensor& out, const Tensor& targets,
                                        SampleResults& results) const {
  return kernels::LinearCrossEntropyForward(pass.stream, out, pass.weights[head_weight_],
                                            BiasIn(pass.weights), targets, results.losses,
                                            results.right);
}

absl::Status LanguageModel::HeadForwardBackward(const Pass& pass, const ParameterBlock& gradients,
                                                double gradient_scale, const Tensor& out,
                                                const Tensor& targets, SampleResults& results,
                                                Tensor& d_out) const {
  Tensor d_weight = gradients[head_weight_];
  Tensor d_bias = BiasIn(gradients);
  return kernels::LinearCrossEntropyForwardBackward(
      pass.stream, out, pass.weights[head_weight_], BiasIn(pass.weights), targets, gradient_scale,
      results.losses, results.right, d_out, d_weight, d_bias);
}

absl::Status LanguageModel::Losses(const Pass& pass, const SampleBatch& batch,
                                   ModelActivations& activations, SampleResults& results) const {
  auto& a = static_cast<Activations&>(activations);
  Pass padded = pass;
  padded.valid = batch.valid;
  WEFT_RETURN_IF_ERROR(trunk_.Forward(padded, batch.tokens, a.trunk));
  return HeadForward(pass, a.trunk.out, batch.targets, results);
}

absl::Status LanguageModel::LossesAndGradients(const Pass& pass, const SampleBatch& batch,
                                               double gradient_scale,
                                               const ParameterBlock& gradients,
                                               ModelActivations& activations,
                                               SampleResults& results, OnReady on_ready) const {
  auto& a = static_cast<Activations&>(activations);
  Pass padded = pass;
  padded.valid = batch.valid;
  WEFT_RETURN_IF_ERROR(trunk_.Forward(padded, batch.tokens, a.trunk));
  WEFT_RETURN_IF_ERROR(HeadForwardBackward(pass, gradients, gradient_scale, a.trunk.out,
                                           batch.targets, results, a.trunk.gradient));
  return trunk_.Backward(padded, gradients, batch.tokens, a.trunk, on_ready);
}

absl::StatusOr<std::unique_ptr<DecodingState>> LanguageModel::NewDecodingState(
    Device& device, int64_t max_tokens) const {
  if (config_.kind != ModelKind::kLanguageModel) {
    return absl::FailedPreconditionError(
        "only a language model can be decoded token by token; this one sees whole sequences");
  }
  auto state = std::make_unique<DecodingState>();
  WEFT_ASSIGN_OR_RETURN(state->trunk, trunk_.NewState(device, max_tokens));
  WEFT_ASSIGN_OR_RETURN(state->token, kernels::NewTensor(device, kernels::DType::kI32, {1, 1}));
  return state;
}

absl::Status LanguageModel::Decode(const Pass& pass, DecodingState& state, Tensor& logits) const {
  WEFT_RETURN_IF_ERROR(trunk_.Decode(pass, state.token, state.trunk));
  return kernels::LinearForward(pass.stream, state.trunk.residual, pass.weights[head_weight_],
                                BiasIn(pass.weights), /*residual=*/Tensor(), logits);
}

int64_t LanguageModel::TrainingMatmulFlopsPerToken() const {
  return 3 * (2 * ClassesOf(config_) * config_.width + trunk_.MatmulFlopsPerToken());
}

}  // namespace weft::worker
