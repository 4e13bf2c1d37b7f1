#include "worker/model/sliced_language_model.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "kernels/ops/elementwise/elementwise.h"

namespace weft::worker {

using kernels::Device;
using kernels::Tensor;

struct SlicedLanguageModel::Activations final : ModelActivations {
  int64_t slice_length = 0;
  int64_t slices = 0;                       // of a sequence
  TrunkActivations whole;                   // of a slice of full length
  TrunkActivations rest;                    // of the last slice, when it is shorter
  std::vector<Boundary> boundary;           // of each layer
  std::vector<Boundary> gradient;           // of the boundary
  std::vector<std::vector<Boundary>> kept;  // [layer][slice], before it; no layer's that can undo
};

struct SlicedLanguageModel::Slice {
  Pass pass;
  Tensor tokens, targets;  // [1, T]
  SampleResults results;   // [1, T]
  TrunkActivations* activations;
};

namespace {

absl::Status SetZero(kernels::Stream& stream, std::vector<Boundary>& boundaries) {
  for (Boundary& boundary : boundaries) {
    for (Tensor& tensor : boundary) WEFT_RETURN_IF_ERROR(kernels::Fill(stream, tensor, 0.0));
  }
  return absl::OkStatus();
}

absl::Status CopyBoundary(kernels::Stream& stream, const Boundary& from, Boundary& to) {
  for (size_t i = 0; i < from.size(); ++i) {
    WEFT_RETURN_IF_ERROR(kernels::Copy(stream, from[i], to[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<Boundary> NewBoundary(Device& device, const std::vector<BoundaryPart>& parts) {
  Boundary boundary;
  for (const BoundaryPart& part : parts) {
    WEFT_ASSIGN_OR_RETURN(
        Tensor tensor,
        kernels::NewTensor(device, part.is_sum ? device.sum_dtype() : device.compute_dtype(),
                           part.shape));
    boundary.push_back(std::move(tensor));
  }
  return boundary;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const SlicedLanguageModel>> SlicedLanguageModel::Create(
    const ModelConfig& config, const SliceConfig& slices) {
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<const LanguageModel> model, LanguageModel::Create(config));
  if (slices.slice_length < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a slice length of ", slices.slice_length, " must be positive"));
  }
  if (config.kind != ModelKind::kLanguageModel) {
    return absl::UnimplementedError("only a language model, which is causal, has slices");
  }
  WEFT_RETURN_IF_ERROR(model->trunk().SupportsSlices(slices.slice_length));
  return absl::WrapUnique(new SlicedLanguageModel(std::move(model), slices));
}

absl::Status SlicedLanguageModel::Supports(const Device& device, PassShape shape) const {
  WEFT_RETURN_IF_ERROR(model_->trunk().embedding().CheckLength(shape.tokens));
  return model_->Supports(device,
                          {.batch = 1, .tokens = std::min(slices_.slice_length, shape.tokens)});
}

absl::StatusOr<std::vector<Boundary>> SlicedLanguageModel::NewBoundaries(Device& device) const {
  std::vector<Boundary> boundaries;
  for (size_t layer = 0; layer < model_->trunk().layers(); ++layer) {
    WEFT_ASSIGN_OR_RETURN(Boundary boundary,
                          NewBoundary(device, model_->trunk().sliced_mixer(layer).BoundaryParts()));
    boundaries.push_back(std::move(boundary));
  }
  return boundaries;
}

absl::StatusOr<std::unique_ptr<ModelActivations>> SlicedLanguageModel::NewActivations(
    Device& device, PassShape shape) const {
  const Trunk& trunk = model_->trunk();
  const int64_t length = std::min(slices_.slice_length, shape.tokens);
  auto a = std::make_unique<Activations>();
  a->slice_length = length;
  a->slices = SliceCount(shape.tokens);
  WEFT_ASSIGN_OR_RETURN(a->whole, trunk.NewActivations(device, {.batch = 1, .tokens = length}));
  if (const int64_t rest = shape.tokens % length; rest > 0) {
    WEFT_ASSIGN_OR_RETURN(a->rest, trunk.NewActivations(device, {.batch = 1, .tokens = rest}));
  }
  WEFT_ASSIGN_OR_RETURN(a->boundary, NewBoundaries(device));
  WEFT_ASSIGN_OR_RETURN(a->gradient, NewBoundaries(device));
  a->kept.resize(trunk.layers());
  for (size_t layer = 0; layer < trunk.layers(); ++layer) {
    if (!Keeps(layer)) continue;
    // Before the first slice there is nothing, before the last one the boundary itself.
    for (int64_t slice = 1; slice + 1 < a->slices; ++slice) {
      WEFT_ASSIGN_OR_RETURN(Boundary boundary,
                            NewBoundary(device, trunk.sliced_mixer(layer).BoundaryParts()));
      a->kept[layer].push_back(std::move(boundary));
    }
  }
  return a;
}

SlicedLanguageModel::Slice SlicedLanguageModel::SliceOf(const Pass& pass, const SampleBatch& batch,
                                                        const SampleResults& results, int64_t row,
                                                        int64_t index, Activations& a) {
  const int64_t tokens = batch.tokens.dim(1);
  const int64_t first = index * a.slice_length;
  const int64_t length = std::min(a.slice_length, tokens - first);
  const auto part = [&](const Tensor& tensor) {
    return tensor.present() ? tensor.Part(row * tokens + first, {1, length}) : Tensor();
  };
  Slice slice{.pass = pass,
              .tokens = part(batch.tokens),
              .targets = part(batch.targets),
              .results = {.losses = part(results.losses), .right = part(results.right)},
              .activations = length == a.slice_length ? &a.whole : &a.rest};
  slice.pass.valid = part(batch.valid);
  slice.pass.first_position = first;
  slice.pass.draws.first_sequence += row;
  return slice;
}

absl::Status SlicedLanguageModel::Losses(const Pass& pass, const SampleBatch& batch,
                                         ModelActivations& activations,
                                         SampleResults& results) const {
  auto& a = static_cast<Activations&>(activations);
  for (int64_t row = 0; row < batch.tokens.dim(0); ++row) {
    WEFT_RETURN_IF_ERROR(SetZero(pass.stream, a.boundary));
    for (int64_t index = 0; index < a.slices; ++index) {
      Slice slice = SliceOf(pass, batch, results, row, index, a);
      WEFT_RETURN_IF_ERROR(model_->trunk().ForwardSlice(
          slice.pass, slice.tokens, SliceStep::kAdvance, a.boundary, *slice.activations));
      WEFT_RETURN_IF_ERROR(
          model_->HeadForward(slice.pass, slice.activations->out, slice.targets, slice.results));
    }
  }
  return absl::OkStatus();
}

absl::Status SlicedLanguageModel::Advance(const Pass& pass, const SampleBatch& batch,
                                          const SampleResults& results, int64_t row,
                                          Activations& a) const {
  WEFT_RETURN_IF_ERROR(SetZero(pass.stream, a.boundary));
  for (int64_t index = 0; index + 1 < a.slices; ++index) {
    Slice slice = SliceOf(pass, batch, results, row, index, a);
    slice.pass.metrics = nullptr;  // the second pass counts
    WEFT_RETURN_IF_ERROR(model_->trunk().ForwardSlice(slice.pass, slice.tokens, SliceStep::kAdvance,
                                                      a.boundary, *slice.activations));
    if (index + 2 >= a.slices) continue;
    for (size_t layer = 0; layer < a.kept.size(); ++layer) {
      if (a.kept[layer].empty()) continue;
      WEFT_RETURN_IF_ERROR(
          CopyBoundary(pass.stream, a.boundary[layer], a.kept[layer][static_cast<size_t>(index)]));
    }
  }
  return absl::OkStatus();
}

absl::Status SlicedLanguageModel::GoBack(Slice& slice, int64_t index, double gradient_scale,
                                         const ParameterBlock& gradients, Activations& a,
                                         OnReady on_ready) const {
  kernels::Stream& stream = slice.pass.stream;
  SliceStep step = SliceStep::kReplay;
  if (index == 0) {
    // Exactly nothing, instead of what rounding has left.
    WEFT_RETURN_IF_ERROR(SetZero(stream, a.boundary));
  } else if (index + 1 < a.slices) {
    step = slices_.keep_boundaries ? SliceStep::kReplay : SliceStep::kUndo;
    for (size_t layer = 0; layer < a.kept.size(); ++layer) {
      if (a.kept[layer].empty()) continue;
      WEFT_RETURN_IF_ERROR(
          CopyBoundary(stream, a.kept[layer][static_cast<size_t>(index - 1)], a.boundary[layer]));
    }
  }
  TrunkActivations& trunk = *slice.activations;
  WEFT_RETURN_IF_ERROR(
      model_->trunk().ForwardSlice(slice.pass, slice.tokens, step, a.boundary, trunk));
  WEFT_RETURN_IF_ERROR(model_->HeadForwardBackward(slice.pass, gradients, gradient_scale, trunk.out,
                                                   slice.targets, slice.results, trunk.gradient));
  return model_->trunk().BackwardSlice(slice.pass, gradients, slice.tokens, a.boundary, trunk,
                                       a.gradient, on_ready);
}

absl::Status SlicedLanguageModel::LossesAndGradients(const Pass& pass, const SampleBatch& batch,
                                                     double gradient_scale,
                                                     const ParameterBlock& gradients,
                                                     ModelActivations& activations,
                                                     SampleResults& results,
                                                     OnReady on_ready) const {
  auto& a = static_cast<Activations&>(activations);
  const int64_t rows = batch.tokens.dim(0);
  for (int64_t row = 0; row < rows; ++row) {
    WEFT_RETURN_IF_ERROR(Advance(pass, batch, results, row, a));
    WEFT_RETURN_IF_ERROR(SetZero(pass.stream, a.gradient));
    for (int64_t index = a.slices - 1; index >= 0; --index) {
      Slice slice = SliceOf(pass, batch, results, row, index, a);
      const bool is_last = row + 1 == rows && index == 0;
      WEFT_RETURN_IF_ERROR(GoBack(slice, index, gradient_scale, gradients, a, [&](int64_t first) {
        if (is_last) on_ready(first);
      }));
    }
  }
  return absl::OkStatus();
}

}  // namespace weft::worker
