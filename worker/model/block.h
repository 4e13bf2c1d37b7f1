// Block: one layer of a language model.
//
//   middle = x + Mixer(RMSNorm(x))
//   y      = middle + SwiGLU(RMSNorm(middle)),   SwiGLU(z) = (SiLU(z G^T) * z U^T) D^T
#pragma once

#include <memory>

#include "worker/model/linear.h"
#include "worker/model/mixers/mixer.h"
#include "worker/model/model_config.h"

namespace weft::worker {

// What a block's forward pass leaves for its backward pass.
struct BlockActivations {
  kernels::Tensor mixer_in;    // [B, T, C] norm of x
  kernels::Tensor mixer_rstd;  // [B T]
  std::unique_ptr<MixerActivations> mixer;
  kernels::Tensor middle;             // [B, T, C]
  kernels::Tensor mlp_in;             // [B, T, C] norm of middle
  kernels::Tensor mlp_rstd;           // [B T]
  kernels::Tensor gate, up, product;  // [B, T, F]
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
                        BlockActivations& activations, kernels::Tensor& gradient) const;

  [[nodiscard]] absl::StatusOr<BlockState> NewState(kernels::Device& device,
                                                    int64_t max_tokens) const;
  // One token: x [1, 1, C] -> y [1, 1, C].
  absl::Status Decode(const Pass& pass, const kernels::Tensor& x, BlockState& state,
                      kernels::Tensor& y) const;

  // Of its matrix products in one forward pass.
  [[nodiscard]] int64_t MatmulFlopsPerToken() const;
  // Of its first parameter: gradients before it belong to earlier layers.
  [[nodiscard]] int64_t first_element() const { return first_element_; }

 private:
  absl::Status Allocate(kernels::Device& device, PassShape shape,
                        BlockActivations& activations) const;
  // middle -> y = middle + SwiGLU(RMSNorm(middle))
  absl::Status MlpForward(const Pass& pass, BlockActivations& a, kernels::Tensor& y) const;
  absl::Status MlpBackward(const Pass& pass, const ParameterBlock& gradients, BlockActivations& a,
                           kernels::Tensor& gradient) const;

  const int64_t width_;
  const int64_t hidden_;
  const double norm_epsilon_;
  const int64_t first_element_;
  // In the order of the layout.
  const ParameterIndex mixer_norm_;
  const std::unique_ptr<const Mixer> mixer_;
  const ParameterIndex mlp_norm_;
  const Linear gate_, up_, down_;
};

}  // namespace weft::worker
