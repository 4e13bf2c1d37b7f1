// A model with a target at each position: a causal language model, whose head is fused with the
// cross entropy and may share its weight with the embedding; or, when it sees whole sequences, a
// classifier of tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/model.h"

namespace weft::worker {

// What the model remembers of one text while decoding it.
struct DecodingState {
  TrunkState trunk;
  kernels::Tensor token;  // I32 [1, 1]
};

class LanguageModel final : public Model {
 public:
  // kInvalidArgument with all problems of the configuration, or when it has one target a sequence.
  static absl::StatusOr<std::unique_ptr<const LanguageModel>> Create(const ModelConfig& config);

  [[nodiscard]] const ModelConfig& config() const override { return config_; }
  // Parameters in the order embedding, layers, final norm, head.
  [[nodiscard]] const ParameterLayout& layout() const override { return layout_; }
  [[nodiscard]] absl::Status Supports(const kernels::Device& device,
                                      PassShape shape) const override;
  [[nodiscard]] absl::StatusOr<std::unique_ptr<ModelActivations>> NewActivations(
      kernels::Device& device, PassShape shape) const override;
  absl::Status Losses(const Pass& pass, const SampleBatch& batch, ModelActivations& activations,
                      SampleResults& results) const override;
  absl::Status LossesAndGradients(const Pass& pass, const SampleBatch& batch, double gradient_scale,
                                  const ParameterBlock& gradients, ModelActivations& activations,
                                  SampleResults& results, OnReady on_ready) const override;
  [[nodiscard]] int64_t TrainingMatmulFlopsPerToken() const override;
  [[nodiscard]] std::vector<MetricName> metrics() const override { return trunk_.metrics(); }

  // The two parts of a pass, for those who compute sequences in pieces.
  [[nodiscard]] const Trunk& trunk() const { return trunk_; }
  // Results for the targets [B, T] from the trunk's out [B, T, C].
  absl::Status HeadForward(const Pass& pass, const kernels::Tensor& out,
                           const kernels::Tensor& targets, SampleResults& results) const;
  // The same, and the gradient of gradient_scale * sum(losses): that of `out` is overwritten, those
  // of parameters are added to.
  absl::Status HeadForwardBackward(const Pass& pass, const ParameterBlock& gradients,
                                   double gradient_scale, const kernels::Tensor& out,
                                   const kernels::Tensor& targets, SampleResults& results,
                                   kernels::Tensor& d_out) const;

  // The state before the first token of a text of at most `max_tokens`. kFailedPrecondition when
  // the model is not causal; kInvalidArgument when the text would be longer than its learned
  // positions.
  [[nodiscard]] absl::StatusOr<std::unique_ptr<DecodingState>> NewDecodingState(
      kernels::Device& device, int64_t max_tokens) const;
  // Takes in the text's next token, which the caller has put into state.token, and gives the
  // logits [1, V] of the one after it.
  absl::Status Decode(const Pass& pass, DecodingState& state, kernels::Tensor& logits) const;

 private:
  struct Activations;

  explicit LanguageModel(ModelConfig config);

  // The logits' bias; absent if there is none.
  [[nodiscard]] kernels::Tensor BiasIn(const ParameterBlock& block) const;

  const ModelConfig config_;
  ParameterLayout layout_;
  const Trunk trunk_;
  ParameterIndex head_weight_;  // the embedding's when they are tied
  std::optional<ParameterIndex> head_bias_;
};

}  // namespace weft::worker
