// Mixer: the part of a block that moves content between tokens. A mixer is an immutable description
// (its shapes and the indexes of its parameters); weights, gradients, activations and decoding
// states are passed in, so that any number of passes may use one mixer at a time.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/mixers/mixer_config.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/pass.h"

namespace weft::worker {

// What a forward pass leaves for its backward pass. Made by the mixer that uses it.
class MixerActivations {
 public:
  virtual ~MixerActivations() = default;
};

// What a mixer remembers of the tokens it has seen while decoding one text. Made by the mixer that
// uses it.
class MixerState {
 public:
  virtual ~MixerState() = default;
};

class Mixer {
 public:
  virtual ~Mixer() = default;

  // OK, or the reason why the device has no kernel for this shape (kUnimplemented). No side
  // effects.
  [[nodiscard]] virtual absl::Status Supports(const kernels::Device& device,
                                              PassShape shape) const = 0;
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<MixerActivations>> NewActivations(
      kernels::Device& device, PassShape shape) const = 0;
  // x [B, T, C] -> y [B, T, C], to which the residual [B, T, C] (absent: none) is added. Keeps in
  // `activations` what Backward needs; x itself must stay unchanged until then.
  virtual absl::Status Forward(const Pass& pass, const kernels::Tensor& x,
                               MixerActivations& activations, const kernels::Tensor& residual,
                               kernels::Tensor& y) const = 0;
  // dy -> dx (overwritten), parameter gradients are added to `gradients`, but for that of the
  // output's bias, which is its caller's to add (sublayer.h). x and the activations are those of
  // the Forward before.
  virtual absl::Status Backward(const Pass& pass, const ParameterBlock& gradients,
                                const kernels::Tensor& x, MixerActivations& activations,
                                const kernels::Tensor& dy, kernels::Tensor& dx) const = 0;

  // The state before the first token of one text of at most `max_tokens` tokens.
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<MixerState>> NewState(
      kernels::Device& device, int64_t max_tokens) const = 0;
  // The next token's x [1, 1, C] -> y [1, 1, C] and the residual, equal to what Forward gives at
  // that position. kOutOfRange when the state is full.
  virtual absl::Status Decode(const Pass& pass, const kernels::Tensor& x, MixerState& state,
                              const kernels::Tensor& residual, kernels::Tensor& y) const = 0;

  // The bias that is added last, or its gradient; absent without one.
  [[nodiscard]] virtual kernels::Tensor OutputBiasIn(const ParameterBlock& block) const = 0;
  // Multiply-adds of the projections, times two, for one token: what a GEMM library would do.
  [[nodiscard]] virtual int64_t MatmulFlopsPerToken() const = 0;
};

// Adds the mixer's parameters to `layout` under "<prefix>.<name>". The configuration was checked.
std::unique_ptr<const Mixer> NewMixer(const MixerConfig& config, const MixerPlace& place,
                                      absl::string_view prefix, ParameterLayout& layout);

}  // namespace weft::worker
