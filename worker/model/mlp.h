// Mlp: the part of a block that works on each token alone.
//
//   kSwiglu  y = (SiLU(x G^T) * x U^T) D^T
//   kGeglu   y = (GELU(x G^T) * x U^T) D^T    GELU in its tanh form
//   kGelu    y = GELU(x U^T) D^T              the exact GELU
//   kGeluTanh   the same, GELU in its tanh form, which GPUs apply within the products
//
// with biases everywhere or nowhere, and in training dropout before D.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/dropout.h"
#include "worker/model/linear.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/pass.h"

namespace weft::worker {

enum class MlpKind : uint8_t { kSwiglu, kGeglu, kGelu, kGeluTanh };

// What an MLP's forward pass leaves for its backward pass. F hidden width.
struct MlpActivations {
  kernels::Tensor gate;     // [B, T, F], of the kinds with a gate
  kernels::Tensor up;       // [B, T, F]
  kernels::Tensor product;  // [B, T, F] what D is applied to
};

struct MlpOptions {
  MlpKind kind = MlpKind::kSwiglu;
  int64_t width = 0;
  int64_t hidden = 0;
  bool bias = false;
  double hidden_dropout = 0.0;
  int64_t layer = 0;
};

// Immutable; any number of passes may use it at a time.
class Mlp {
 public:
  // Adds gate (if there is one), up and down to `layout` under "<prefix>.<name>".
  Mlp(const MlpOptions& options, absl::string_view prefix, ParameterLayout& layout);

  [[nodiscard]] absl::StatusOr<MlpActivations> NewActivations(kernels::Device& device,
                                                              PassShape shape) const;
  // x [B, T, C] -> y [B, T, C]; x must stay unchanged until Backward.
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, MlpActivations& activations,
                       const kernels::Tensor& residual, kernels::Tensor& y) const;
  // dy -> dx (overwritten); parameter gradients are added, but for that of the output's bias, which
  // is its caller's to add (sublayer.h).
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        const MlpActivations& activations, const kernels::Tensor& dy,
                        kernels::Tensor& dx) const;

  // The bias that is added last, or its gradient; absent without one.
  [[nodiscard]] kernels::Tensor OutputBiasIn(const ParameterBlock& block) const {
    return down_.BiasIn(block);
  }
  [[nodiscard]] int64_t MatmulFlopsPerToken() const;

 private:
  absl::Status Activate(const Pass& pass, MlpActivations& activations) const;
  absl::Status ActivateBackward(const Pass& pass, const MlpActivations& activations,
                                const kernels::Tensor& d_product, kernels::Tensor& d_gate,
                                kernels::Tensor& d_up) const;

  const MlpKind kind_;
  const int64_t hidden_;
  const Dropout dropout_;
  // In the order of the layout.
  const std::optional<Linear> gate_;
  const Linear up_, down_;
};

}  // namespace weft::worker
