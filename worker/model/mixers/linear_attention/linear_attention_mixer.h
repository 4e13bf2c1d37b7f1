// Linear attention as a mixer, under the names `performer` and `slim`: projections, rotary
// positions if there are any, attention by sums of features, output projection. The past of a text
// is a state of fixed size. Random features are drawn once and belong to the weights.
#pragma once

#include <memory>
#include <optional>

#include "worker/model/mixers/linear_attention/linear_attention_options.h"
#include "worker/model/mixers/performer/performer_config.h"
#include "worker/model/mixers/sliced_mixer.h"
#include "worker/model/mixers/slim/slim_config.h"

namespace weft::worker {

class LinearAttentionMixer final : public SlicedMixer {
 public:
  LinearAttentionMixer(const PerformerMixerConfig& config, const MixerPlace& place,
                       absl::string_view prefix, ParameterLayout& layout)
      : LinearAttentionMixer(OptionsOf(config, place), place, prefix, layout) {}
  LinearAttentionMixer(const SlimMixerConfig& config, const MixerPlace& place,
                       absl::string_view prefix, ParameterLayout& layout)
      : LinearAttentionMixer(OptionsOf(config, place), place, prefix, layout) {}

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

  [[nodiscard]] absl::Status SupportsSlices(int64_t slice_length) const override;
  // Not with random features: the sums that one large key dominates hold nothing else.
  [[nodiscard]] bool CanUndo() const override;
  [[nodiscard]] std::vector<BoundaryPart> BoundaryParts() const override;
  absl::Status ForwardSlice(const Pass& pass, const kernels::Tensor& x, SliceStep step,
                            Boundary& boundary, MixerActivations& activations,
                            const kernels::Tensor& residual, kernels::Tensor& y) const override;
  absl::Status BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                             const kernels::Tensor& x, const Boundary& before,
                             MixerActivations& activations, const kernels::Tensor& dy,
                             Boundary& gradient, kernels::Tensor& dx) const override;

 private:
  struct Activations;
  struct State;

  // Adds the parameter "<prefix>.features" [rows, D] when there are random features.
  LinearAttentionMixer(const LinearAttentionOptions& options, const MixerPlace& place,
                       absl::string_view prefix, ParameterLayout& layout);

  [[nodiscard]] kernels::LinearAttentionProblem Problem(PassShape shape) const;
  [[nodiscard]] kernels::LinearAttentionInputs Inputs(const Pass& pass, const Heads& heads) const;
  // The gradient of the state after the tokens, absent or not, becomes that of the state before.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        const Activations& activations, const kernels::Tensor& dy,
                        kernels::Tensor d_state, kernels::Tensor& dx) const;

  const LinearAttentionOptions options_;
  const bool causal_;
  const HeadProjections projections_;
  std::optional<ParameterIndex> features_;
};

}  // namespace weft::worker
