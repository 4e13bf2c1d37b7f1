// A causal language model: embedding, blocks, a final RMSNorm, an untied head that is fused with
// the cross entropy. Written with ops on tensor handles only, so it runs on every device; on the
// fp64 reference device it is its own judge.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/block.h"
#include "worker/model/mixers/mixer.h"
#include "worker/model/model_config.h"
#include "worker/model/parameter_layout.h"

namespace weft::worker {

// The samples of one pass, on the device.
struct TokenBatch {
  kernels::Tensor tokens;   // I32 [B, T]
  kernels::Tensor targets;  // I32 [B, T]; a negative target is left out of the loss
};

// All that a forward pass leaves for its backward pass. Memory: the sum of the layers' activations.
struct ModelActivations {
  PassShape shape;
  std::vector<kernels::Tensor> residual;  // [B, T, C]: the input of each block, then of the head
  std::vector<BlockActivations> blocks;
  kernels::Tensor head_in;    // [B, T, C] the final norm's output
  kernels::Tensor head_rstd;  // [B T]
  kernels::Tensor gradient;   // [B, T, C] of the residual stream
};

// What the model remembers of one text while decoding it.
struct DecodingState {
  std::vector<BlockState> blocks;
  kernels::Tensor token;                    // I32 [1, 1]
  kernels::Tensor residual, next_residual;  // [1, 1, C]
  kernels::Tensor rstd;                     // [1]
};

// Immutable: any number of threads may run passes, each with its own stream, scratch, activations
// and gradients.
class LanguageModel {
 public:
  // Called during Backward: the gradient elements from `first` on are final. `first` falls to 0 in
  // the last call.
  using OnReady = absl::FunctionRef<void(int64_t first)>;

  // kInvalidArgument with all problems of the configuration.
  static absl::StatusOr<std::unique_ptr<const LanguageModel>> Create(const ModelConfig& config);

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  // Parameters in the order embedding, layers, final norm, head.
  [[nodiscard]] const ParameterLayout& layout() const { return layout_; }
  // OK, or which layer has no kernel for this shape on this device, and why.
  [[nodiscard]] absl::Status Supports(const kernels::Device& device, PassShape shape) const;

  [[nodiscard]] absl::StatusOr<std::unique_ptr<ModelActivations>> NewActivations(
      kernels::Device& device, PassShape shape) const;
  // losses [B, T] in nats: -log p(target), 0 where the target is negative.
  absl::Status Losses(const Pass& pass, const TokenBatch& batch, ModelActivations& activations,
                      kernels::Tensor& losses) const;
  // The same, and the gradient of gradient_scale * sum(losses) is added to `gradients`.
  absl::Status LossesAndGradients(const Pass& pass, const TokenBatch& batch, double gradient_scale,
                                  const ParameterBlock& gradients, ModelActivations& activations,
                                  kernels::Tensor& losses, OnReady on_ready) const;

  // The state before the first token of a text of at most `max_tokens`.
  [[nodiscard]] absl::StatusOr<std::unique_ptr<DecodingState>> NewDecodingState(
      kernels::Device& device, int64_t max_tokens) const;
  // Takes in the text's next token, which the caller has put into state.token, and gives the
  // logits [1, V] of the one after it.
  absl::Status Decode(const Pass& pass, DecodingState& state, kernels::Tensor& logits) const;

  // Matrix-product FLOPs of one token in forward and backward (three times the forward's), the
  // work that a GEMM library would do; mixers' own recurrences and attention are not counted.
  [[nodiscard]] int64_t TrainingMatmulFlopsPerToken() const;

 private:
  explicit LanguageModel(ModelConfig config);

  // Tokens to activations.head_in.
  absl::Status Hidden(const Pass& pass, const TokenBatch& batch, ModelActivations& a) const;

  const ModelConfig config_;
  ParameterLayout layout_;
  ParameterIndex embedding_weight_;
  std::vector<std::unique_ptr<const Block>> blocks_;
  int64_t final_norm_offset_ = 0;
  ParameterIndex final_norm_weight_, head_weight_;
};

}  // namespace weft::worker
