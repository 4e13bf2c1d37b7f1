// Softmax attention as a mixer: projections, rotary positions on queries and keys, attention over
// all (in a causal model: all earlier) tokens or a sliding window of them, output projection.
// Several query heads may share a key-value head.
#pragma once

#include <memory>

#include "kernels/attention/softmax/softmax.h"
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
                       kernels::Tensor& y) const override;
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        MixerActivations& activations, const kernels::Tensor& dy,
                        kernels::Tensor& dx) const override;
  [[nodiscard]] absl::StatusOr<std::unique_ptr<MixerState>> NewState(
      kernels::Device& device, int64_t max_tokens) const override;
  absl::Status Decode(const Pass& pass, const kernels::Tensor& x, MixerState& state,
                      kernels::Tensor& y) const override;
  [[nodiscard]] int64_t MatmulFlopsPerToken() const override;

 private:
  struct Activations;
  struct State;

  [[nodiscard]] kernels::SoftmaxProblem Problem(int64_t batch, int64_t queries, int64_t keys) const;
  // y = rotary(x W^T), the tokens counted from `first_position`.
  absl::Status ProjectAndRotate(const Pass& pass, ParameterIndex weight, const kernels::Tensor& x,
                                int64_t first_position, kernels::Tensor& y) const;
  // dy is that of the projection's output. Adds to dx when `accumulate`; else overwrites it.
  absl::Status ProjectionBackward(const Pass& pass, const ParameterBlock& gradients,
                                  ParameterIndex weight, const kernels::Tensor& x,
                                  const kernels::Tensor& dy, bool accumulate,
                                  kernels::Tensor& dx) const;

  const SoftmaxMixerConfig config_;
  const int64_t width_;
  const int64_t head_dim_;
  const bool causal_;
  ParameterIndex q_weight_, k_weight_, v_weight_, output_weight_;
};

}  // namespace weft::worker
