// Block: one layer of a model, a mixer and an MLP, each in its sublayer (sublayer.h):
//
//   middle = x + Mixer(Norm(x))
//   y      = middle + Mlp(Norm(middle))
#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "worker/model/mixers/sliced_mixer.h"
#include "worker/model/mlp.h"
#include "worker/model/model_config.h"
#include "worker/model/sublayer.h"

namespace weft::worker {

// Called during a backward pass: the gradient elements from `first` on are final. `first` falls
// from call to call, to 0 in the last.
using OnReady = absl::FunctionRef<void(int64_t first)>;

// What a block's forward pass leaves for its backward pass.
struct BlockActivations {
  SublayerActivations around_mixer, around_mlp;
  std::unique_ptr<MixerActivations> mixer;
  kernels::Tensor middle;  // [B, T, C]
  MlpActivations mlp;
};

// What a block remembers while decoding.
struct BlockState {
  std::unique_ptr<MixerState> mixer;
  BlockActivations step;  // of one token; without mixer activations
};

// Immutable; any number of passes may use it at a time.
class Block {
 public:
  // Adds the block's parameters to `layout` under "<prefix>.<name>".
  Block(const ModelConfig& config, size_t layer, absl::string_view prefix, ParameterLayout& layout);

  [[nodiscard]] const Mixer& mixer() const { return *mixer_; }
  [[nodiscard]] absl::StatusOr<BlockActivations> NewActivations(kernels::Device& device,
                                                                PassShape shape) const;
  // x [B, T, C] -> y [B, T, C]; x must stay unchanged until Backward.
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, BlockActivations& activations,
                       kernels::Tensor& y) const;
  // `gradient` holds dy when called and dx afterwards. Parameter gradients are added.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        BlockActivations& activations, kernels::Tensor& gradient,
                        OnReady on_ready) const;

  // The mixer, if it can be computed slice by slice; else kUnimplemented, saying why not.
  [[nodiscard]] absl::StatusOr<const SlicedMixer*> sliced_mixer() const {
    return AsSliced(mixer_config_, *mixer_);
  }
  // Forward and Backward of a slice; see SlicedMixer, which the mixer is.
  absl::Status ForwardSlice(const Pass& pass, const kernels::Tensor& x, SliceStep step,
                            Boundary& boundary, BlockActivations& activations,
                            kernels::Tensor& y) const;
  absl::Status BackwardSlice(const Pass& pass, const ParameterBlock& gradients,
                             const kernels::Tensor& x, const Boundary& before,
                             BlockActivations& activations, Boundary& boundary_gradient,
                             kernels::Tensor& gradient, OnReady on_ready) const;

  [[nodiscard]] absl::StatusOr<BlockState> NewState(kernels::Device& device,
                                                    int64_t max_tokens) const;
  // One token: x [1, 1, C] -> y [1, 1, C].
  absl::Status Decode(const Pass& pass, const kernels::Tensor& x, BlockState& state,
                      kernels::Tensor& y) const;

  // Of its matrix products in one forward pass.
  [[nodiscard]] int64_t MatmulFlopsPerToken() const;

 private:
  // All but the mixer's.
  [[nodiscard]] absl::StatusOr<BlockActivations> NewOwnActivations(kernels::Device& device,
                                                                   PassShape shape) const;
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, Sublayer::Forwards mix,
                       BlockActivations& activations, kernels::Tensor& y) const;
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        Sublayer::Backwards mix, BlockActivations& activations,
                        kernels::Tensor& gradient, OnReady on_ready) const;

  const int64_t width_;
  const MixerConfig mixer_config_;
  // In the order of the layout.
  const int64_t first_element_;
  const Sublayer around_mixer_;
  const std::unique_ptr<const Mixer> mixer_;
  const int64_t first_of_mlp_;
  const Sublayer around_mlp_;
  const Mlp mlp_;
};

}  // namespace weft::worker
