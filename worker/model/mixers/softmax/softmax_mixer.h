// Softmax attention as a mixer: projections, rotary positions on queries and keys, attention over
// all (in a causal model: all earlier) tokens or a sliding window of them, output projection.
// Several query heads may share a key-value head.
#pragma once

#include <memory>

#include "kernels/attention/softmax/softmax.h"
#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/mixer.h"

namespace weft::worker {

class SoftmaxMixer final : public Mixer {
 public:
  SoftmaxMixer(const SoftmaxMixerConfig& config, const MixerPlace& place, absl::string_view prefix,
               ParameterLayout& layout);

  [[nodiscard]] absl::Status Supports(const kernels::Device& device,
                                      PassShape shape) const override;
  [[nodiscard]] absl::StatusOr<std::unique_ptr<MixerActivations>> NewActivations(
      kernels::Device& device, PassShape shape) const override;
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, MixerActivations& activations,
                       const kernels::Tensor& residual, kernels::Tensor& y) const override;
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        MixerActivations& activations, const kernels::Tensor& dy,
                        kernels::Tensor& dx) const override;
  [[nodiscard]] absl::StatusOr<std::unique_ptr<MixerState>> NewState(
      kernels::Device& device, int64_t max_tokens) const override;
  absl::Status Decode(const Pass& pass, const kernels::Tensor& x, MixerState& state,
                      const kernels::Tensor& residual, kernels::Tensor& y) const override;
  [[nodiscard]] kernels::Tensor OutputBiasIn(const ParameterBlock& block) const override {
    return projections_.OutputBiasIn(block);
  }
  [[nodiscard]] int64_t MatmulFlopsPerToken() const override;

 private:
  struct Activations;
  struct State;

  [[nodiscard]] kernels::SoftmaxProblem Problem(int64_t batch, int64_t queries, int64_t keys) const;

  const int64_t window_;
  const int64_t layer_;
  const double dropout_;  // of attention weights, in training
  const bool causal_;
  const HeadProjections projections_;
};

}  // namespace weft::worker
