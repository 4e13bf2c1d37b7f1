// A model on a device with everything that a pass needs, for tests.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/status_macros.h"
#include "kernels/attention/register.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/host_values.h"
#include "kernels/device/reference/reference_device.h"
#include "kernels/ops/elementwise/elementwise.h"
#include "kernels/ops/register.h"
#include "kernels/random/philox.h"
#include "tests/testing/status_matchers.h"
#include "worker/model/initial_weights.h"
#include "worker/model/language_model.h"
#include "worker/model/model.h"

namespace weft::worker::testing {

inline std::unique_ptr<kernels::Device> NewReference() {
  kernels::RegisterReferenceKernels();
  kernels::RegisterReferenceAttention();
  return kernels::NewReferenceDevice();
}

inline std::unique_ptr<kernels::Device> NewCpu(int threads) {
  kernels::RegisterCpuKernels();
  kernels::RegisterCpuAttention();
  auto device = kernels::NewCpuDevice({.threads = threads});
  WEFT_CHECK_MSG(device.ok(), device.status().ToString());
  return *std::move(device);
}

template <typename T>
T Must(absl::StatusOr<T> result) {
  WEFT_CHECK_MSG(result.ok(), result.status().ToString());
  return *std::move(result);
}
inline void Must(const absl::Status& status) { WEFT_CHECK_MSG(status.ok(), status.ToString()); }

inline std::vector<double> ToHost(const kernels::Tensor& tensor, kernels::Stream& stream) {
  return Must(kernels::ReadValues(tensor, stream));
}

// Draws in [0, limit) that follow from `seed`.
inline std::vector<int32_t> Tokens(int64_t count, int64_t limit, uint64_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    const auto words = kernels::Philox4x32({static_cast<uint32_t>(i), 0, 0, 0}, seed);
    tokens.push_back(static_cast<int32_t>(
        kernels::ChooseBelow(words[0], words[1], static_cast<uint64_t>(limit))));
  }
  return tokens;
}

class ModelFixture {
 public:
  ModelFixture(const ModelConfig& config, std::unique_ptr<kernels::Device> device, PassShape shape)
      : ModelFixture(Must(NewModel(config)), std::move(device), shape) {}
  ModelFixture(std::unique_ptr<const Model> model, std::unique_ptr<kernels::Device> device,
               PassShape shape)
      : device_(std::move(device)),
        stream_(Must(device_->NewStream())),
        scratch_(*device_),
        model_(std::move(model)),
        weights_(model_->layout(), NewBlock(device_->compute_dtype())),
        gradients_(model_->layout(), NewBlock(device_->sum_dtype())),
        activations_(Must(model_->NewActivations(*device_, shape))),
        sample_(SampleOf(model_->config(), shape)) {
    Must(InitialiseWeights(/*seed=*/1, *stream_, weights_));
    batch_.tokens = NewIntegers(sample_.tokens);
    batch_.targets = NewIntegers(sample_.targets);
    for (kernels::Tensor* tensor : {&results_.losses, &results_.right}) {
      *tensor = Must(kernels::NewTensor(*device_, device_->sum_dtype(), sample_.targets));
    }
  }

  kernels::Device& device() { return *device_; }
  kernels::Stream& stream() { return *stream_; }
  [[nodiscard]] const Model& model() const { return *model_; }
  // Of a model that is one.
  [[nodiscard]] const LanguageModel& language_model() const {
    return dynamic_cast<const LanguageModel&>(*model_);
  }
  // Extents of the tokens and the targets of a batch.
  [[nodiscard]] const kernels::Shape& tokens_shape() const { return sample_.tokens; }
  [[nodiscard]] const kernels::Shape& targets_shape() const { return sample_.targets; }
  ParameterBlock& weights() { return weights_; }
  [[nodiscard]] Pass pass() {
    return {.stream = *stream_, .scratch = scratch_, .weights = weights_, .draws = draws_};
  }
  // From now on passes are those of training at some place in a job, with dropout.
  void Train(const DrawPlace& place) { draws_ = place; }
  void Train() { draws_ = {.seed = 7, .step = 3, .first_sequence = 4, .training = true}; }
  // Of all passes from now on.
  void set_draws(const DrawPlace& draws) { draws_ = draws; }

  // Weights of ordinary size instead of small initial ones, norm weights that differ: so every
  // branch of the model matters.
  void EnlargeWeights() {
    std::vector<double> values = ToHost(weights_.block(), *stream_);
    for (const Parameter& parameter : model_->layout().parameters()) {
      for (int64_t i = 0; i < parameter.shape.count(); ++i) {
        double& value = values[static_cast<size_t>(parameter.offset + i)];
        if (!parameter.trained) continue;
        if (parameter.initialisation.kind == Initialisation::Kind::kFill) {
          value += 0.1 * static_cast<double>(i % 5);
        } else {
          value *= 0.5 / parameter.initialisation.scale;
        }
      }
    }
    SetWeights(values);
  }
  void SetWeights(const std::vector<double>& values) {
    kernels::Tensor block = weights_.block();
    Must(kernels::WriteValues(block, values, *stream_));
  }
  void SetBatch(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets) {
    Must(device_->CopyFromHost(batch_.tokens, tokens.data(), *stream_));
    Must(device_->CopyFromHost(batch_.targets, targets.data(), *stream_));
  }
  void SetValid(const std::vector<int32_t>& valid) {
    batch_.valid = NewIntegers(sample_.tokens);
    Must(device_->CopyFromHost(batch_.valid, valid.data(), *stream_));
  }

  std::vector<double> Losses() {
    Must(model_->Losses(pass(), batch_, *activations_, results_));
    return ToHost(results_.losses, *stream_);
  }
  // The same pass, which counts.
  absl::Status CountLosses(StepMetrics& metrics) {
    Pass counting = pass();
    counting.metrics = &metrics;
    WEFT_RETURN_IF_ERROR(model_->Losses(counting, batch_, *activations_, results_));
    const int64_t samples = batch_.tokens.dim(0);
    return metrics.Collect(*stream_, samples, samples);
  }
  // Of the last pass, whichever it was.
  std::vector<double> ResultLosses() { return ToHost(results_.losses, *stream_); }
  std::vector<double> Right() { return ToHost(results_.right, *stream_); }
  double Loss() {
    double sum = 0;
    for (const double loss : Losses()) sum += loss;
    return sum;
  }
  // The gradient of the sum of losses times `scale`.
  std::vector<double> Gradient(
      double scale, const std::function<void(int64_t)>& on_ready = [](int64_t) {}) {
    kernels::Tensor block = gradients_.block();
    Must(kernels::Fill(*stream_, block, 0.0));
    Must(model_->LossesAndGradients(pass(), batch_, scale, gradients_, *activations_, results_,
                                    on_ready));
    return CurrentGradient();
  }
  std::vector<double> CurrentGradient() { return ToHost(gradients_.block(), *stream_); }

 private:
  kernels::Tensor NewBlock(kernels::DType dtype) {
    return Must(kernels::NewTensor(*device_, dtype, {model_->layout().block_count()}));
  }
  kernels::Tensor NewIntegers(const kernels::Shape& shape) {
    return Must(kernels::NewTensor(*device_, kernels::DType::kI32, shape));
  }
  struct Sample {
    kernels::Shape tokens, targets;
  };
  static Sample SampleOf(const ModelConfig& config, PassShape shape) {
    if (!HasOneTarget(config)) {
      return {.tokens = {shape.batch, shape.tokens}, .targets = {shape.batch, shape.tokens}};
    }
    if (config.kind == ModelKind::kClassifier) {
      return {.tokens = {shape.batch, shape.tokens}, .targets = {shape.batch}};
    }
    return {.tokens = {shape.batch, 2, shape.tokens}, .targets = {shape.batch}};
  }

  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<kernels::Stream> stream_;
  Scratch scratch_;
  std::unique_ptr<const Model> model_;
  ParameterBlock weights_, gradients_;
  std::unique_ptr<ModelActivations> activations_;
  const Sample sample_;
  SampleResults results_;
  SampleBatch batch_;
  DrawPlace draws_;
};

}  // namespace weft::worker::testing
