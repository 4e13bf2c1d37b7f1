// Trunk: what all models have in common: from tokens through the embedding, the blocks and the
// final norm to a vector for each position. Heads make of these what the model is for.
//
// B sequences, T tokens, S = T + leading_tokens() positions, C model width.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/block.h"
#include "worker/model/input_embedding.h"
#include "worker/model/model_config.h"
#include "worker/model/norm.h"

namespace weft::worker {

// All that a forward pass leaves for its backward pass. Memory: the sum of the layers' activations.
struct TrunkActivations {
  EmbeddingActivations embedding;
  std::vector<kernels::Tensor> residual;  // [B, S, C]: the input of each block, then of the norm
  std::vector<BlockActivations> blocks;
  NormStatistics statistics;  // of the final norm
  kernels::Tensor out;        // [B, S, C]
  kernels::Tensor gradient;   // [B, S, C]: of `out`, then of the residual stream
};

// What is remembered of one text while decoding it.
struct TrunkState {
  EmbeddingActivations embedding;
  std::vector<BlockState> blocks;
  kernels::Tensor residual, next_residual;  // [1, 1, C]
  NormStatistics statistics;
  int64_t position = 0;  // of the next token
};

// Immutable; any number of passes may use it at a time.
class Trunk {
 public:
  // Adds the parameters in the order embedding, layers, final norm. The configuration was checked.
  Trunk(const ModelConfig& config, ParameterLayout& layout);

  [[nodiscard]] const InputEmbedding& embedding() const { return embedding_; }
  // Of the first parameter behind the layers, where the last gradients of a head begin.
  [[nodiscard]] int64_t end_of_layers() const { return end_of_layers_; }

  // `shape` is that of the tokens. OK, or which layer has no kernel for it on this device, and why.
  [[nodiscard]] absl::Status Supports(const kernels::Device& device, PassShape shape) const;
  [[nodiscard]] absl::StatusOr<TrunkActivations> NewActivations(kernels::Device& device,
                                                                PassShape shape) const;
  // tokens I32 [B, T] -> activations.out. pass.valid is [B, S].
  absl::Status Forward(const Pass& pass, const kernels::Tensor& tokens,
                       TrunkActivations& activations) const;
  // From the gradient of `out`, which lies in activations.gradient. Parameter gradients are added.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients,
                        const kernels::Tensor& tokens, TrunkActivations& activations,
                        OnReady on_ready) const;

  // OK, or which layer cannot be computed slice by slice, and why.
  [[nodiscard]] absl::Status SupportsSlices(int64_t slice_length) const;
  [[nodiscard]] size_t layers() const { return blocks_.size(); }
  // Of a layer of a trunk that supports slices.
  [[nodiscard]] const SlicedMixer& sliced_mixer(size_t layer) const;
  // Forward over a slice of one sequence, tokens [1, T], which begins at pass.first_position.
  // Layers that cannot undo take kUndo for kReplay.
  absl::Status ForwardSlice(const Pass& pass, const kernels::Tensor& tokens, SliceStep step,
                            std::vector<Boundary>& boundaries, TrunkActivations& activations) const;
  // Backward after it. `boundary_gradients` are those after the slice, then those before it.
  absl::Status BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                             const kernels::Tensor& tokens, const std::vector<Boundary>& before,
                             TrunkActivations& activations,
                             std::vector<Boundary>& boundary_gradients, OnReady on_ready) const;

  // The state before the first token of a text of at most `max_tokens`.
  [[nodiscard]] absl::StatusOr<TrunkState> NewState(kernels::Device& device,
                                                    int64_t max_tokens) const;
  // Takes in the text's next token I32 [1, 1]; the result lies in state.residual.
  absl::Status Decode(const Pass& pass, const kernels::Tensor& token, TrunkState& state) const;

  // Of its matrix products in one forward pass.
  [[nodiscard]] int64_t MatmulFlopsPerToken() const;
  // What its mixers count in StepMetrics.
  [[nodiscard]] std::vector<MetricName> metrics() const;

 private:
  // Of block i, from activations.residual[i] to [i + 1].
  using BlockForwards = absl::FunctionRef<absl::Status(size_t i)>;
  // Of block i, of activations.gradient in place; tells what is final then.
  using BlockBackwards = absl::FunctionRef<absl::Status(size_t i)>;
  absl::Status Forward(const Pass& pass, const kernels::Tensor& tokens, BlockForwards blocks,
                       TrunkActivations& activations) const;
  absl::Status FinalNorm(const Pass& pass, TrunkActivations& activations) const;
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients,
                        const kernels::Tensor& tokens, BlockBackwards blocks,
                        TrunkActivations& activations, OnReady on_ready) const;

  const int64_t width_;
  const std::vector<MixerConfig> mixers_;
  // In the order of the layout.
  const InputEmbedding embedding_;
  std::vector<std::unique_ptr<const Block>> blocks_;
  int64_t end_of_layers_ = 0;
  std::optional<const Norm> final_norm_;
};

}  // namespace weft::worker
