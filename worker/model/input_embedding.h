// InputEmbedding: from tokens to the residual stream: a row of a table for each token, a learned
// vector before the first one if the model has one, positions, dropout in training.
//
// B sequences, T tokens, S = T or T + 1 positions, C model width.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/dropout.h"
#include "worker/model/model_config.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/pass.h"

namespace weft::worker {

// What passes share: fixed positions are computed once.
struct EmbeddingActivations {
  kernels::Tensor sinusoids;    // [S, C], with fixed positions
  int64_t sinusoids_from = -1;  // the position of its row 0; -1: it is not filled yet
};

// Immutable; any number of passes may use it at a time, each with its own activations.
class InputEmbedding {
 public:
  // Adds "embedding.weight", "leading.weight" and "positions.weight", as far as the model has them.
  InputEmbedding(const ModelConfig& config, ParameterLayout& layout);

  // The table [V, C], or [V, C/2] beside concatenated positions.
  [[nodiscard]] ParameterIndex weight() const { return weight_; }
  [[nodiscard]] int64_t leading_tokens() const { return leading_ ? 1 : 0; }
  // kInvalidArgument when a sequence of T tokens is longer than the learned positions.
  [[nodiscard]] absl::Status CheckLength(int64_t tokens) const;

  [[nodiscard]] absl::StatusOr<EmbeddingActivations> NewActivations(kernels::Device& device,
                                                                    int64_t tokens) const;
  // tokens I32 [B, T], the first at pass.first_position -> x [B, S, C].
  absl::Status Forward(const Pass& pass, const kernels::Tensor& tokens,
                       EmbeddingActivations& activations, kernels::Tensor& x) const;
  // From the tokens and dx, whose contents are lost; parameter gradients are added.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients,
                        const kernels::Tensor& tokens, kernels::Tensor& dx) const;

 private:
  [[nodiscard]] bool concatenates() const {
    return positions_ == PositionKind::kSinusoidalConcatenated;
  }
  // Rows of the table into the tokens' places of x.
  absl::Status EmbedTokens(const Pass& pass, const kernels::Tensor& tokens,
                           kernels::Tensor& x) const;
  absl::Status AddPositions(const Pass& pass, EmbeddingActivations& activations,
                            kernels::Tensor& x) const;
  // The learned positions of x, row-major: one sequence's worth of `table`.
  [[nodiscard]] kernels::Tensor Positions(const Pass& pass, const ParameterBlock& table,
                                          const kernels::Tensor& x) const;

  const int64_t width_;
  const int64_t embedding_width_;
  const PositionKind positions_;
  const int64_t max_positions_;
  const Dropout dropout_;
  ParameterIndex weight_;
  std::optional<ParameterIndex> leading_;
  std::optional<ParameterIndex> learned_;
};

}  // namespace weft::worker
