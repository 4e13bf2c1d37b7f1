// The delta rule as a mixer: projections, short convolution with SiLU, normalised queries and keys,
// a learned step size beta per head and token, the recurrence, a norm per head and the output
// projection. Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over
// Sequence Length", section 3.4. No positions: the recurrence and the convolution order the tokens.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "worker/model/linear.h"
#include "worker/model/mixers/sliced_mixer.h"

namespace weft::worker {

class DeltaMixer final : public SlicedMixer {
 public:
  DeltaMixer(const DeltaMixerConfig& config, const MixerPlace& place, absl::string_view prefix,
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
    return output_ ? output_->BiasIn(block) : kernels::Tensor();
  }
  [[nodiscard]] int64_t MatmulFlopsPerToken() const override;

  // A boundary is S and, with a convolution, the last inputs of those of q, k and v.
  [[nodiscard]] absl::Status SupportsSlices(int64_t slice_length) const override;
  // A token with beta = 1 leaves no trace of what its key meant before.
  [[nodiscard]] bool CanUndo() const override { return false; }
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
  // One of q, k and v: a projection, then the convolution when there is one.
  struct Branch {
    Linear projection;
    std::optional<ParameterIndex> taps;
  };

  [[nodiscard]] bool convolves() const { return config_.convolution_taps > 0; }
  [[nodiscard]] double query_scale() const;
  [[nodiscard]] double beta_scale() const { return config_.negative_eigenvalues ? 2.0 : 1.0; }
  [[nodiscard]] Branch AddBranch(const MixerPlace& place, absl::string_view prefix,
                                 absl::string_view name, ParameterLayout& layout) const;
  // A projection of the input to `out` channels.
  static Linear AddProjection(const MixerPlace& place, absl::string_view prefix,
                              absl::string_view name, int64_t out, ParameterLayout& layout);

  // projected = x W^T; y = SiLU(convolution(projected)).
  absl::Status BranchForward(const Pass& pass, const Branch& branch, const kernels::Tensor& x,
                             const kernels::Tensor& history, kernels::Tensor& projected,
                             kernels::Tensor& y) const;
  // Of q and k: then y [B, T, H, D] = scale * y / |y|, for each head.
  absl::Status NormedBranchForward(const Pass& pass, const Branch& branch, const kernels::Tensor& x,
                                   const kernels::Tensor& history, double scale,
                                   kernels::Tensor& projected, kernels::Tensor& y,
                                   kernels::Tensor& inverse_norm) const;
  // The inputs before x of a convolution, [B, W - 1, C] (absent: zeros), and their gradient: that
  // of the last inputs of x becomes that of the history.
  struct Past {
    kernels::Tensor history, gradient;
  };
  absl::Status BranchBackward(const Pass& pass, const ParameterBlock& gradients,
                              const Branch& branch, const kernels::Tensor& x,
                              const kernels::Tensor& projected, const Past& past,
                              const kernels::Tensor& dy, kernels::Accumulate accumulate,
                              kernels::Tensor& dx) const;
  absl::Status NormedBranchBackward(const Pass& pass, const ParameterBlock& gradients,
                                    const Branch& branch, const kernels::Tensor& x,
                                    const kernels::Tensor& projected, const Past& past,
                                    double scale, const kernels::Tensor& y,
                                    const kernels::Tensor& inverse_norm, const kernels::Tensor& dy,
                                    kernels::Accumulate accumulate, kernels::Tensor& dx) const;
  // What both do in the end; d_history is that of the inputs before x, present with past.gradient.
  absl::Status ProjectionBackward(const Pass& pass, const ParameterBlock& gradients,
                                  const Branch& branch, const kernels::Tensor& x, const Past& past,
                                  const kernels::Tensor& d_history, kernels::Tensor& d_projected,
                                  kernels::Accumulate accumulate, kernels::Tensor& dx) const;
  // Projections, convolutions, norms and beta: everything before the recurrence.
  struct Histories {
    kernels::Tensor q, k, v;
  };
  [[nodiscard]] Histories HistoriesOf(const Boundary& boundary) const;
  absl::Status BeforeRecurrence(const Pass& pass, const kernels::Tensor& x,
                                const Histories& histories, Activations& saved) const;
  // The gradients of what the recurrence takes.
  struct RecurrenceGradients {
    kernels::Tensor q, k, v, beta;
  };
  absl::Status BeforeRecurrenceBackward(const Pass& pass, const ParameterBlock& gradients,
                                        const kernels::Tensor& x, Activations& saved,
                                        const Histories& histories, const Histories& d_histories,
                                        RecurrenceGradients& d, kernels::Tensor& dx) const;
  // The gradient of the state after the tokens, absent or not, becomes that of the state before.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        Activations& saved, const Boundary& before, const Boundary& gradient,
                        const kernels::Tensor& dy, kernels::Tensor& dx) const;
  // Norm per head, gate and output projection: everything after the recurrence. The residual
  // (absent: none) is added.
  absl::Status AfterRecurrence(const Pass& pass, const kernels::Tensor& x, Activations& saved,
                               const kernels::Tensor& residual, kernels::Tensor& y) const;
  // d_o of the recurrence from dy. With a gate, dx becomes the gate's part of the input gradient;
  // without, it is left alone.
  absl::Status AfterRecurrenceBackward(const Pass& pass, const ParameterBlock& gradients,
                                       const kernels::Tensor& x, Activations& saved,
                                       const kernels::Tensor& dy, kernels::Tensor& d_o,
                                       kernels::Tensor& dx) const;
  // Everything but what the recurrence keeps.
  absl::Status Allocate(kernels::Device& device, PassShape shape, Activations& activations) const;

  const DeltaMixerConfig config_;
  const int64_t width_;
  const int64_t head_dim_;
  const double norm_epsilon_;
  // In the order of the layout.
  const Branch q_, k_, v_;
  const Linear beta_;
  std::optional<const Linear> gate_;
  ParameterIndex norm_weight_;  // one vector for all heads
  std::optional<const Linear> output_;
};

}  // namespace weft::worker
