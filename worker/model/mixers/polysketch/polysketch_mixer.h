// Polynomial attention as a mixer: projections, rotary positions, layer norms and sketches of
// queries and keys, attention, output projection. Kacham, Mirrokni and Zhong 2024,
// "PolySketchFormer".
//
// The authors' program rotates neighbouring entries of a head and leaves them apart, the first of
// all pairs before the second of all. Here entry i is rotated with entry i + D/2 and stays: the
// same numbers for projections whose rows are permuted.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/attention/polysketch/polysketch.h"
#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/polysketch/sketch.h"
#include "worker/model/mixers/sliced_mixer.h"
#include "worker/model/norm.h"

namespace weft::worker {

class PolysketchMixer final : public SlicedMixer {
 public:
  PolysketchMixer(const PolysketchMixerConfig& config, const MixerPlace& place,
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
  [[nodiscard]] absl::StatusOr<std::unique_ptr<MixerState>> NewState(
      kernels::Device& device, int64_t max_tokens) const override;
  absl::Status Decode(const Pass& pass, const kernels::Tensor& x, MixerState& state,
                      const kernels::Tensor& residual, kernels::Tensor& y) const override;
  [[nodiscard]] kernels::Tensor OutputBiasIn(const ParameterBlock& block) const override {
    return projections_.OutputBiasIn(block);
  }
  [[nodiscard]] int64_t MatmulFlopsPerToken() const override;

  // Where nothing is mixed and all weights are estimated.
  [[nodiscard]] absl::Status SupportsSlices(int64_t slice_length) const override;
  [[nodiscard]] bool CanUndo() const override { return true; }
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

  // Queries or keys on their way from the projection to the kernel.
  struct Side {
    kernels::Tensor raw;                 // [B, T, H, D]: projected and rotated
    kernels::Tensor normed;              // [B, T, H, D]: raw itself without a norm
    NormStatistics statistics;           // of the norm
    kernels::Tensor phi;                 // [B, T, H, r]; absent without a sketch
    kernels::LearnedSketchSaved sketch;  // what it keeps for the backward pass
  };

  [[nodiscard]] kernels::PolysketchProblem Problem(int64_t batch, int64_t queries,
                                                   int64_t keys) const;
  [[nodiscard]] bool learned() const { return HasLearnedSketch(config_.mode); }
  // From x to both sides and the values.
  absl::Status Prepare(const Pass& pass, const kernels::Tensor& x, Activations& activations) const;
  // `before` and `gradient`, that of the state after the tokens and then of the one before them,
  // may be absent.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        const kernels::PolysketchState& before, const Activations& activations,
                        const kernels::Tensor& dy, kernels::PolysketchState gradient,
                        kernels::Tensor& dx) const;
  // Memory for what follows from side.raw.
  absl::Status Allocate(kernels::Device& device, Side& side) const;
  // side.raw -> normed, phi.
  absl::Status Prepare(const Pass& pass, const Norm* norm, Side& side) const;
  // d.normed (absent when the kernel has none) and d.phi -> d.raw.
  absl::Status PrepareBackward(const Pass& pass, const ParameterBlock& gradients, const Norm* norm,
                               const Side& side, Side& d) const;
  // What the kernel takes of both sides.
  [[nodiscard]] kernels::PolysketchInputs Inputs(const Side& q, const Side& k,
                                                 const kernels::Tensor& v) const;
  [[nodiscard]] const Norm* q_norm() const { return q_norm_ ? &*q_norm_ : nullptr; }
  [[nodiscard]] const Norm* k_norm() const { return k_norm_ ? &*k_norm_ : q_norm(); }

  const PolysketchMixerConfig config_;
  const bool causal_;
  const HeadProjections projections_;
  std::optional<const Norm> q_norm_;  // of keys too when shared
  std::optional<const Norm> k_norm_;
  std::optional<const Sketch> sketch_;
};

}  // namespace weft::worker
