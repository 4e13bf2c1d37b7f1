#include "worker/model/input_embedding.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/columns/columns.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/embedding/embedding.h"
#include "kernels/ops/sinusoids/sinusoids.h"

namespace weft::worker {

using kernels::Tensor;
using Kind = Initialisation::Kind;

namespace {

// [B, S, C] as B rows: what is added to a row is added to every sequence.
Tensor AsSequences(const Tensor& x) { return x.Reshaped({x.dim(0), x.dim(1) * x.dim(2)}); }

// The usual deviation of learned positions, as in Xiong et al. 2021, "Nystromformer".
constexpr double kPositionDeviation = 0.02;

}  // namespace

InputEmbedding::InputEmbedding(const ModelConfig& config, ParameterLayout& layout)
    : width_(config.width),
      embedding_width_(EmbeddingWidth(config)),
      positions_(config.positions),
      max_positions_(config.max_positions),
      dropout_(config.dropout.embedding, /*layer=*/0, DropoutSite::kEmbedding) {
  weight_ = layout.AddWeight("embedding.weight", {config.vocabulary, embedding_width_},
                             {.kind = Kind::kNormal, .scale = EmbeddingDeviation(config)});
  if (HasLeadingToken(config)) {
    leading_ = layout.AddWeight("leading.weight", {width_}, {.kind = Kind::kFill, .scale = 0.0});
  }
  if (positions_ == PositionKind::kLearned) {
    learned_ = layout.AddWeight("positions.weight", {max_positions_, width_},
                                {.kind = Kind::kNormal, .scale = kPositionDeviation});
  }
}

absl::Status InputEmbedding::CheckLength(int64_t tokens) const {
  if (!learned_ || tokens + leading_tokens() <= max_positions_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a sequence of ", tokens, " tokens is longer than the model's ",
                   max_positions_ - leading_tokens(), " learned positions"));
}

absl::StatusOr<EmbeddingActivations> InputEmbedding::NewActivations(kernels::Device& device,
                                                                    int64_t tokens) const {
  EmbeddingActivations a;
  if (positions_ == PositionKind::kSinusoidal || concatenates()) {
    WEFT_ASSIGN_OR_RETURN(a.sinusoids, kernels::NewTensor(device, device.compute_dtype(),
                                                          {tokens + leading_tokens(), width_}));
  }
  return a;
}

absl::Status InputEmbedding::EmbedTokens(const Pass& pass, const Tensor& tokens, Tensor& x) const {
  Scratch::Frame frame(pass.scratch);
  const int64_t batch = tokens.dim(0);
  const int64_t length = tokens.dim(1);
  Tensor body = x;
  if (leading_) {
    WEFT_ASSIGN_OR_RETURN(body, pass.scratch.Take({batch, length, width_}));
  }
  const Tensor table = pass.weights[weight_];
  if (concatenates()) {
    WEFT_ASSIGN_OR_RETURN(Tensor rows, pass.scratch.Take({batch, length, embedding_width_}));
    WEFT_RETURN_IF_ERROR(kernels::EmbeddingForward(pass.stream, tokens, table, rows));
    WEFT_RETURN_IF_ERROR(kernels::Fill(pass.stream, body, 0.0));
    WEFT_RETURN_IF_ERROR(kernels::PutColumns(pass.stream, rows, /*at=*/0, body));
  } else {
    WEFT_RETURN_IF_ERROR(kernels::EmbeddingForward(pass.stream, tokens, table, body));
  }
  if (!leading_) return absl::OkStatus();
  WEFT_ASSIGN_OR_RETURN(Tensor leading, pass.scratch.Take({batch, width_}));
  WEFT_RETURN_IF_ERROR(kernels::Fill(pass.stream, leading, 0.0));
  WEFT_RETURN_IF_ERROR(
      kernels::BiasForward(pass.stream, leading, pass.weights[*leading_], leading));
  Tensor sequences = AsSequences(x);
  WEFT_RETURN_IF_ERROR(kernels::PutColumns(pass.stream, leading, /*at=*/0, sequences));
  return kernels::PutColumns(pass.stream, AsSequences(body), /*at=*/width_, sequences);
}

Tensor InputEmbedding::Positions(const Pass& pass, const ParameterBlock& table,
                                 const Tensor& x) const {
  return table[*learned_].Part(pass.first_position * width_, {x.dim(1) * width_});
}

absl::Status InputEmbedding::AddPositions(const Pass& pass, EmbeddingActivations& a,
                                          Tensor& x) const {
  if (positions_ == PositionKind::kNone) return absl::OkStatus();
  Tensor sequences = AsSequences(x);
  if (learned_) {
    return kernels::BiasForward(pass.stream, sequences, Positions(pass, pass.weights, x),
                                sequences);
  }
  if (a.sinusoids_from != pass.first_position) {
    const kernels::SinusoidOptions options = {
        .order =
            concatenates() ? kernels::SinusoidOrder::kHalves : kernels::SinusoidOrder::kInterleaved,
        .first_position = pass.first_position,
        .first_column = concatenates() ? embedding_width_ : 0,
        .columns = concatenates() ? width_ - embedding_width_ : width_};
    WEFT_RETURN_IF_ERROR(kernels::Sinusoids(pass.stream, options, a.sinusoids));
    a.sinusoids_from = pass.first_position;
  }
  return kernels::BiasForward(pass.stream, sequences, a.sinusoids, sequences);
}

absl::Status InputEmbedding::Forward(const Pass& pass, const Tensor& tokens,
                                     EmbeddingActivations& a, Tensor& x) const {
  WEFT_RETURN_IF_ERROR(EmbedTokens(pass, tokens, x));
  WEFT_RETURN_IF_ERROR(AddPositions(pass, a, x));
  return dropout_.Apply(pass, x);
}

absl::Status InputEmbedding::Backward(const Pass& pass, const ParameterBlock& gradients,
                                      const Tensor& tokens, Tensor& dx) const {
  Scratch::Frame frame(pass.scratch);
  const int64_t batch = tokens.dim(0);
  const int64_t length = tokens.dim(1);
  WEFT_RETURN_IF_ERROR(dropout_.Apply(pass, dx));
  if (learned_) {
    Tensor d_positions = Positions(pass, gradients, dx);
    WEFT_RETURN_IF_ERROR(kernels::BiasBackward(pass.stream, AsSequences(dx), d_positions));
  }
  Tensor d_body = dx;
  if (leading_) {
    const Tensor sequences = AsSequences(dx);
    WEFT_ASSIGN_OR_RETURN(Tensor d_leading, pass.scratch.Take({batch, width_}));
    WEFT_RETURN_IF_ERROR(kernels::TakeColumns(pass.stream, sequences, /*at=*/0, d_leading));
    Tensor d_weight = gradients[*leading_];
    WEFT_RETURN_IF_ERROR(kernels::BiasBackward(pass.stream, d_leading, d_weight));
    WEFT_ASSIGN_OR_RETURN(d_body, pass.scratch.Take({batch, length, width_}));
    Tensor body_sequences = AsSequences(d_body);
    WEFT_RETURN_IF_ERROR(
        kernels::TakeColumns(pass.stream, sequences, /*at=*/width_, body_sequences));
  }
  Tensor d_rows = d_body;
  if (concatenates()) {
    WEFT_ASSIGN_OR_RETURN(d_rows, pass.scratch.Take({batch, length, embedding_width_}));
    WEFT_RETURN_IF_ERROR(kernels::TakeColumns(pass.stream, d_body, /*at=*/0, d_rows));
  }
  Tensor d_table = gradients[weight_];
  return kernels::EmbeddingBackward(pass.stream, tokens, d_rows, d_table);
}

}  // namespace weft::worker
