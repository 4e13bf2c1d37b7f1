// SBM attention as a mixer: projections, rotary positions if there are any, memberships of queries
// and keys in clusters, a graph drawn from them for every pass, attention along it, output
// projection. Not only the attention but the graph follows from the queries and keys, and has a
// gradient to them: a straight-through estimate (kernels/attention/sbm/sbm.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/attention/sbm/memberships.h"
#include "worker/model/mixers/head_projections.h"
#include "worker/model/mixers/mixer.h"
#include "worker/model/mixers/sbm/sbm_config.h"

namespace weft::worker {

class SbmMixer final : public Mixer {
 public:
  // Adds the map to memberships, "<prefix>.map.hidden" and "<prefix>.map.output", and
  // "<prefix>.clusters" [H, K, D] beside the projections. They begin as in the authors' program
  // whatever scheme the model has: at first every pair is linked with a probability near 1/4.
  SbmMixer(const SbmMixerConfig& config, const MixerPlace& place, absl::string_view prefix,
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
  // Draws the edges that a pass over the whole text would draw. Its work grows with the tokens
  // before: their memberships are computed again.
  absl::Status Decode(const Pass& pass, const kernels::Tensor& x, MixerState& state,
                      const kernels::Tensor& residual, kernels::Tensor& y) const override;
  [[nodiscard]] kernels::Tensor OutputBiasIn(const ParameterBlock& block) const override {
    return projections_.OutputBiasIn(block);
  }
  [[nodiscard]] int64_t MatmulFlopsPerToken() const override;

 private:
  struct Activations;
  struct State;
  // Of the map f and the clusters.
  struct Indexes {
    ParameterIndex w1, b1, w2, b2, clusters;
  };

  static Indexes AddClusterModel(const SbmMixerConfig& config, int64_t width,
                                 absl::string_view prefix, ParameterLayout& layout);
  [[nodiscard]] kernels::SbmProblem Problem(int64_t batch, int64_t queries, int64_t keys) const;
  // In weights or gradients.
  [[nodiscard]] kernels::SbmClusterModel ClusterModel(const ParameterBlock& block) const;
  [[nodiscard]] kernels::SbmDraws Draws(const Pass& pass) const;

  const SbmMixerConfig config_;
  const bool causal_;
  const int64_t layer_;
  const double dropout_;         // of attention weights, in training
  const double density_weight_;  // of the mean density of this layer
  const HeadProjections projections_;
  const Indexes parameters_;
};

}  // namespace weft::worker
