// SlicedLanguageModel: a language model that computes each sequence slice by slice, with the
// activations of one slice instead of those of the whole sequence, and gives the same losses and
// gradients up to rounding: Likhosherstov et al. 2021, "Sub-linear memory: how to make performers
// SLiM", section 3.
//
// A first pass goes through the slices and keeps nothing but the boundary, the states of all layers
// after the last slice. The second goes back: it takes a slice out of the boundary again, computes
// it with its activations, and carries the gradient of the boundary to the slice before. Layers
// that cannot take slices out keep a copy of their boundary for each slice.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/model/language_model.h"

namespace weft::worker {

struct SliceConfig {
  int64_t slice_length = 0;  // tokens; the last slice of a sequence may be shorter. 0: no slices
  bool keep_boundaries =
      false;  // of all layers and slices: the second pass repeats the first's bits
};

class SlicedLanguageModel final : public Model {
 public:
  // kInvalidArgument as LanguageModel::Create; kUnimplemented, naming the layer, when the model
  // cannot be cut. `slices.slice_length` is positive.
  static absl::StatusOr<std::unique_ptr<const SlicedLanguageModel>> Create(
      const ModelConfig& config, const SliceConfig& slices);

  [[nodiscard]] const ModelConfig& config() const override { return model_->config(); }
  // That of the same model without slices: weights fit both.
  [[nodiscard]] const ParameterLayout& layout() const override { return model_->layout(); }
  [[nodiscard]] absl::Status Supports(const kernels::Device& device,
                                      PassShape shape) const override;
  // Of one sequence: those of a batch are computed one after the other.
  [[nodiscard]] absl::StatusOr<std::unique_ptr<ModelActivations>> NewActivations(
      kernels::Device& device, PassShape shape) const override;
  absl::Status Losses(const Pass& pass, const SampleBatch& batch, ModelActivations& activations,
                      SampleResults& results) const override;
  // Gradients are final from the last sequence's first slice on: on_ready is called there alone.
  absl::Status LossesAndGradients(const Pass& pass, const SampleBatch& batch, double gradient_scale,
                                  const ParameterBlock& gradients, ModelActivations& activations,
                                  SampleResults& results, OnReady on_ready) const override;
  // Without what is computed twice.
  [[nodiscard]] int64_t TrainingMatmulFlopsPerToken() const override {
    return model_->TrainingMatmulFlopsPerToken();
  }
  [[nodiscard]] std::vector<MetricName> metrics() const override { return model_->metrics(); }

 private:
  struct Activations;
  struct Slice;

  SlicedLanguageModel(std::unique_ptr<const LanguageModel> model, const SliceConfig& slices)
      : model_(std::move(model)), slices_(slices) {}

  [[nodiscard]] int64_t SliceCount(int64_t tokens) const {
    return (tokens + slices_.slice_length - 1) / slices_.slice_length;
  }
  [[nodiscard]] bool Keeps(size_t layer) const {
    return slices_.keep_boundaries || !model_->trunk().sliced_mixer(layer).CanUndo();
  }
  [[nodiscard]] absl::StatusOr<std::vector<Boundary>> NewBoundaries(kernels::Device& device) const;
  // Slice `index` of sequence `row` of a batch, and the pass that it belongs to.
  static Slice SliceOf(const Pass& pass, const SampleBatch& batch, const SampleResults& results,
                       int64_t row, int64_t index, Activations& activations);
  // The first pass over a sequence: up to its last slice.
  absl::Status Advance(const Pass& pass, const SampleBatch& batch, const SampleResults& results,
                       int64_t row, Activations& activations) const;
  // The second: slice `index`, after all that come after it.
  absl::Status GoBack(Slice& slice, int64_t index, double gradient_scale,
                      const ParameterBlock& gradients, Activations& activations,
                      OnReady on_ready) const;

  const std::unique_ptr<const LanguageModel> model_;
  const SliceConfig slices_;
};

}  // namespace weft::worker
