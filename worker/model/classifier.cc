#include "worker/model/classifier.h"

#include <utility>

#include "absl/memory/memory.h"
#include "common/base/status_macros.h"
#include "kernels/ops/columns/columns.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/ops/mean_pool/mean_pool.h"
#include "kernels/ops/pair_features/pair_features.h"
#include "kernels/ops/relu/relu.h"

namespace weft::worker {

using kernels::Accumulate;
using kernels::Device;
using kernels::DType;
using kernels::NewTensor;
using kernels::Tensor;

// B samples, K rows of each, S positions, C width, P pooled and joined width, F hidden width.
struct Classifier::Activations final : ModelActivations {
  TrunkActivations trunk;
  Tensor valid;     // I32 [B K, S] with the leading token, when there are both
  Tensor pooled;    // [B, K C]
  Tensor features;  // [B, P]
  Tensor hidden;    // [B, F] behind the rectifier
};

namespace {

int64_t FeatureWidth(const ModelConfig& config) {
  if (config.kind != ModelKind::kTwoTower) return config.width;
  return (config.pair_products ? 4 : 2) * config.width;
}

// [B, S, C] as B rows.
Tensor AsSequences(const Tensor& x) { return x.Reshaped({x.dim(0), x.dim(1) * x.dim(2)}); }

}  // namespace

absl::StatusOr<std::unique_ptr<const Classifier>> Classifier::Create(const ModelConfig& config) {
  WEFT_RETURN_IF_ERROR(Validate(config));
  if (!HasOneTarget(config)) {
    return absl::InvalidArgumentError("a model with a target at each position is no classifier");
  }
  return absl::WrapUnique(new Classifier(config));
}

Classifier::Classifier(ModelConfig config)
    : config_(std::move(config)),
      layout_(config_.weights),
      trunk_(config_, layout_),
      hidden_("head.hidden", FeatureWidth(config_), config_.head_hidden, /*bias=*/true, layout_) {
  output_weight_ = layout_.AddWeight("head.output.weight", {config_.classes, config_.head_hidden});
  output_bias_ = layout_.AddBias("head.output.bias", config_.classes, config_.head_hidden);
}

absl::Status Classifier::Supports(const Device& device, PassShape shape) const {
  shape.batch *= rows_per_sample();
  return trunk_.Supports(device, shape);
}

absl::StatusOr<std::unique_ptr<ModelActivations>> Classifier::NewActivations(
    Device& device, PassShape shape) const {
  const DType dtype = device.compute_dtype();
  const PassShape rows = {.batch = shape.batch * rows_per_sample(), .tokens = shape.tokens};
  auto a = std::make_unique<Activations>();
  WEFT_ASSIGN_OR_RETURN(a->trunk, trunk_.NewActivations(device, rows));
  if (config_.padded && HasLeadingToken(config_)) {
    WEFT_ASSIGN_OR_RETURN(a->valid, NewTensor(device, DType::kI32, {rows.batch, rows.tokens + 1}));
  }
  WEFT_ASSIGN_OR_RETURN(a->pooled,
                        NewTensor(device, dtype, {shape.batch, rows_per_sample() * config_.width}));
  a->features = a->pooled;
  if (has_products()) {
    WEFT_ASSIGN_OR_RETURN(a->features,
                          NewTensor(device, dtype, {shape.batch, FeatureWidth(config_)}));
  }
  WEFT_ASSIGN_OR_RETURN(a->hidden, NewTensor(device, dtype, {shape.batch, config_.head_hidden}));
  return a;
}

absl::StatusOr<Classifier::Rows> Classifier::AsRows(const Pass& pass, const SampleBatch& batch,
                                                    Activations& a) const {
  const int64_t per_sample = rows_per_sample();
  const int64_t tokens = batch.tokens.dim(-1);
  const kernels::Shape shape = {batch.tokens.count() / tokens, tokens};
  Rows rows{.pass = pass, .tokens = batch.tokens.Reshaped(shape)};
  // Draws tell the two rows of a pair apart.
  rows.pass.draws.first_sequence *= per_sample;
  rows.pass.step_sequences *= per_sample;
  rows.pass.valid = batch.valid;
  if (!batch.valid.present()) return rows;
  rows.pass.valid = batch.valid.Reshaped(shape);
  if (!HasLeadingToken(config_)) return rows;
  WEFT_RETURN_IF_ERROR(kernels::Fill(pass.stream, a.valid, 1.0));
  WEFT_RETURN_IF_ERROR(kernels::PutColumns(pass.stream, rows.pass.valid, /*at=*/1, a.valid));
  rows.pass.valid = a.valid;
  return rows;
}

absl::Status Classifier::Pool(const Pass& pass, const Activations& a, Tensor& pooled) const {
  if (config_.pooling == Pooling::kMean) {
    return kernels::MeanPoolForward(pass.stream, a.trunk.out, pass.valid, pooled);
  }
  return kernels::TakeColumns(pass.stream, AsSequences(a.trunk.out), /*at=*/0, pooled);
}

absl::Status Classifier::PoolBackward(const Pass& pass, const Tensor& d_pooled,
                                      Activations& a) const {
  if (config_.pooling == Pooling::kMean) {
    return kernels::MeanPoolBackward(pass.stream, d_pooled, pass.valid, a.trunk.gradient);
  }
  WEFT_RETURN_IF_ERROR(kernels::Fill(pass.stream, a.trunk.gradient, 0.0));
  Tensor sequences = AsSequences(a.trunk.gradient);
  return kernels::PutColumns(pass.stream, d_pooled, /*at=*/0, sequences);
}

absl::Status Classifier::Hidden(const Rows& rows, Activations& a) const {
  const Pass& pass = rows.pass;
  WEFT_RETURN_IF_ERROR(trunk_.Forward(pass, rows.tokens, a.trunk));
  Tensor pooled = a.pooled.Reshaped({rows.tokens.dim(0), config_.width});
  WEFT_RETURN_IF_ERROR(Pool(pass, a, pooled));
  if (has_products()) {
    WEFT_RETURN_IF_ERROR(kernels::PairFeaturesForward(pass.stream, a.pooled, a.features));
  }
  WEFT_RETURN_IF_ERROR(hidden_.Forward(pass, a.features, a.hidden));
  return kernels::ReluForward(pass.stream, a.hidden, a.hidden);
}

absl::Status Classifier::HiddenBackward(const Rows& rows, const ParameterBlock& gradients,
                                        Activations& a, Tensor& d_hidden) const {
  const Pass& pass = rows.pass;
  Scratch::Frame frame(pass.scratch);
  WEFT_ASSIGN_OR_RETURN(Tensor d_features, pass.scratch.Take(a.features.shape()));
  WEFT_RETURN_IF_ERROR(kernels::ReluBackward(pass.stream, a.hidden, d_hidden, d_hidden));
  WEFT_RETURN_IF_ERROR(
      hidden_.Backward(pass, gradients, a.features, d_hidden, Accumulate::kNo, d_features));
  Tensor d_pooled = d_features;
  if (has_products()) {
    WEFT_ASSIGN_OR_RETURN(d_pooled, pass.scratch.Take(a.pooled.shape()));
    WEFT_RETURN_IF_ERROR(
        kernels::PairFeaturesBackward(pass.stream, a.pooled, d_features, d_pooled));
  }
  return PoolBackward(pass, d_pooled.Reshaped({rows.tokens.dim(0), config_.width}), a);
}

absl::Status Classifier::Losses(const Pass& pass, const SampleBatch& batch,
                                ModelActivations& activations, SampleResults& results) const {
  auto& a = static_cast<Activations&>(activations);
  WEFT_ASSIGN_OR_RETURN(const Rows rows, AsRows(pass, batch, a));
  WEFT_RETURN_IF_ERROR(Hidden(rows, a));
  return kernels::LinearCrossEntropyForward(pass.stream, a.hidden, pass.weights[output_weight_],
                                            pass.weights[output_bias_], batch.targets,
                                            results.losses, results.right);
}

absl::Status Classifier::LossesAndGradients(const Pass& pass, const SampleBatch& batch,
                                            double gradient_scale, const ParameterBlock& gradients,
                                            ModelActivations& activations, SampleResults& results,
                                            OnReady on_ready) const {
  auto& a = static_cast<Activations&>(activations);
  WEFT_ASSIGN_OR_RETURN(const Rows rows, AsRows(pass, batch, a));
  WEFT_RETURN_IF_ERROR(Hidden(rows, a));
  {
    Scratch::Frame frame(pass.scratch);
    WEFT_ASSIGN_OR_RETURN(Tensor d_hidden, pass.scratch.Take(a.hidden.shape()));
    Tensor d_weight = gradients[output_weight_];
    Tensor d_bias = gradients[output_bias_];
    WEFT_RETURN_IF_ERROR(kernels::LinearCrossEntropyForwardBackward(
        pass.stream, a.hidden, pass.weights[output_weight_], pass.weights[output_bias_],
        batch.targets, gradient_scale, results.losses, results.right, d_hidden, d_weight, d_bias));
    WEFT_RETURN_IF_ERROR(HiddenBackward(rows, gradients, a, d_hidden));
  }
  return trunk_.Backward(rows.pass, gradients, rows.tokens, a.trunk, on_ready);
}

int64_t Classifier::TrainingMatmulFlopsPerToken() const { return 3 * trunk_.MatmulFlopsPerToken(); }

}  // namespace weft::worker
