// A model with one class for a sequence or for a pair of sequences: the trunk as an encoder that
// sees all tokens, pooling, and an MLP with a rectifier. Both sequences of a pair go through the
// same encoder, as twice as many rows.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/linear.h"
#include "worker/model/model.h"

namespace weft::worker {

class Classifier final : public Model {
 public:
  // kInvalidArgument with all problems of the configuration, or when it has a target a position.
  static absl::StatusOr<std::unique_ptr<const Classifier>> Create(const ModelConfig& config);

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

 private:
  struct Activations;

  explicit Classifier(ModelConfig config);

  // The pass and the tokens as the trunk sees them: every sequence of every sample is a row.
  struct Rows {
    Pass pass;
    kernels::Tensor tokens;
  };
  absl::StatusOr<Rows> AsRows(const Pass& pass, const SampleBatch& batch, Activations& a) const;
  // From the batch to a.hidden.
  absl::Status Hidden(const Rows& rows, Activations& a) const;
  absl::Status HiddenBackward(const Rows& rows, const ParameterBlock& gradients, Activations& a,
                              kernels::Tensor& d_hidden) const;
  // The trunk's output to one vector a row, and back.
  absl::Status Pool(const Pass& pass, const Activations& a, kernels::Tensor& pooled) const;
  absl::Status PoolBackward(const Pass& pass, const kernels::Tensor& d_pooled,
                            Activations& a) const;

  [[nodiscard]] int64_t rows_per_sample() const {
    return config_.kind == ModelKind::kTwoTower ? 2 : 1;
  }
  [[nodiscard]] bool has_products() const {
    return config_.kind == ModelKind::kTwoTower && config_.pair_products;
  }

  const ModelConfig config_;
  ParameterLayout layout_;
  const Trunk trunk_;
  const Linear hidden_;
  ParameterIndex output_weight_, output_bias_;
};

}  // namespace weft::worker
