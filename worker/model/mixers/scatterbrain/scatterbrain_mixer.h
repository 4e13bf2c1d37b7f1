// Scatterbrain as a mixer: projections, rotary positions if there are any, attention that is exact
// on a support and made of random features elsewhere, output projection. The rows of the features
// are drawn once and belong to the weights; hash projections are drawn for every step.
#pragma once

#include <memory>

#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/mixer.h"
#include "worker/model/mixers/scatterbrain/scatterbrain_config.h"

namespace weft::worker {

class ScatterbrainMixer final : public Mixer {
 public:
  // Adds the constant "<prefix>.features" [rows of W, D] beside the projections.
  ScatterbrainMixer(const ScatterbrainMixerConfig& config, const MixerPlace& place,
                    absl::string_view prefix, ParameterLayout& layout);

  [[nodiscard]] absl::Status Supports(const kernels::Device& device,
                                      PassShape shape) const override;
  [[nodiscard]] absl::StatusOr<std::unique_ptr<MixerActivations>> NewActivations(
      kernels::Device& device, PassShape shape) const override;
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, MixerActivations& activations,
                       const kernels::Tensor& residual, kernels::Tensor& y) const override;
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        MixerActivations& activations, const kernels::Tensor& dy,
                        kernels::Tensor& dx) const override;
  // kUnimplemented with a hash support.
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

  [[nodiscard]] absl::StatusOr<kernels::ScatterbrainProblem> Problem(PassShape shape) const;
  // The buckets of this pass's queries and keys.
  absl::Status Hash(const Pass& pass, Activations& activations) const;
  [[nodiscard]] kernels::ScatterbrainOperands Operands(const Pass& pass,
                                                       const Activations& activations) const;

  const ScatterbrainMixerConfig config_;
  const bool causal_;
  const int64_t layer_;
  const double dropout_;  // of attention weights, in training
  const int64_t feature_count_;
  const HeadProjections projections_;
  const ParameterIndex features_;
};

}  // namespace weft::worker
