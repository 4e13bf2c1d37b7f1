// Model: what the trainer trains: a function from samples to losses, and its gradient. Written with
// ops on tensor handles only, so it runs on every device; on the fp64 reference device it is its
// own judge.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/model_config.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/pass.h"
#include "worker/model/trunk.h"

namespace weft::worker {

// The samples of one pass, on the device. B samples of K rows (1, of a pair 2) of T tokens.
struct SampleBatch {
  kernels::Tensor tokens;  // I32 [B, T] or [B, K, T]
  // I32 [B, T], or [B] where a sample has one target; a negative target is no training example.
  kernels::Tensor targets;
  kernels::Tensor valid;  // I32, shaped as tokens, 0 where there is padding; absent: nowhere
};

// What a pass finds out, shaped as the targets; 0 where the target is negative.
struct SampleResults {
  kernels::Tensor losses;  // -log p(target) in nats
  kernels::Tensor right;   // 1 where the target is the likeliest class, else 0
};

// What a forward pass leaves for its backward pass. Made by the model that uses it.
class ModelActivations {
 public:
  virtual ~ModelActivations() = default;
};

// Immutable: any number of threads may run passes, each with its own stream, scratch, activations
// and gradients.
class Model {
 public:
  virtual ~Model() = default;

  [[nodiscard]] virtual const ModelConfig& config() const = 0;
  [[nodiscard]] virtual const ParameterLayout& layout() const = 0;
  // For passes of shape.batch samples whose rows have shape.tokens tokens. OK, or which layer has
  // no kernel for this on this device, and why.
  [[nodiscard]] virtual absl::Status Supports(const kernels::Device& device,
                                              PassShape shape) const = 0;
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<ModelActivations>> NewActivations(
      kernels::Device& device, PassShape shape) const = 0;

  // The caller allocates the results. pass.valid is taken from the batch.
  virtual absl::Status Losses(const Pass& pass, const SampleBatch& batch,
                              ModelActivations& activations, SampleResults& results) const = 0;
  // The same, and the gradient of gradient_scale * sum(losses) is added to `gradients`.
  virtual absl::Status LossesAndGradients(const Pass& pass, const SampleBatch& batch,
                                          double gradient_scale, const ParameterBlock& gradients,
                                          ModelActivations& activations, SampleResults& results,
                                          OnReady on_ready) const = 0;

  // Matrix-product FLOPs of one token in forward and backward (three times the forward's), the
  // work that a GEMM library would do; mixers' own recurrences and attention, and heads that run
  // once a sequence, are not counted.
  [[nodiscard]] virtual int64_t TrainingMatmulFlopsPerToken() const = 0;
  // What it counts in StepMetrics.
  [[nodiscard]] virtual std::vector<MetricName> metrics() const = 0;
};

// kInvalidArgument with all problems of the configuration.
absl::StatusOr<std::unique_ptr<const Model>> NewModel(const ModelConfig& config);

}  // namespace weft::worker
