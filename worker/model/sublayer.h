// Sublayer: what stands around the mixer of a block and around its MLP, called f here: a norm,
// dropout in training, the residual connection.
//
//   kInput   y = x + Dropout(f(Norm(x)))
//   kOutput  y = x + Norm(Dropout(f(x)))    SLiM's (Likhosherstov et al. 2021)
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/dropout.h"
#include "worker/model/model_config.h"
#include "worker/model/norm.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/pass.h"

namespace weft::worker {

// What a forward pass leaves for its backward pass.
struct SublayerActivations {
  kernels::Tensor edge;  // [B, T, C] between norm and f: what f is applied to, or what f has given
  NormStatistics statistics;
};

// Immutable; any number of passes may use it at a time.
class Sublayer {
 public:
  // out = f(in) + residual (absent: none), all [B, T, C].
  using Forwards = absl::FunctionRef<absl::Status(
      const kernels::Tensor& in, const kernels::Tensor& residual, kernels::Tensor& out)>;
  // f's backward pass: from `in` and d_out to d_in, which is overwritten. It adds the gradients of
  // its parameters, but for that of the bias which it adds last.
  using Backwards = absl::FunctionRef<absl::Status(
      const kernels::Tensor& in, const kernels::Tensor& d_out, kernels::Tensor& d_in)>;

  // Adds the norm's parameters under `norm_prefix`.
  Sublayer(const ModelConfig& config, int64_t layer, DropoutSite site,
           absl::string_view norm_prefix, ParameterLayout& layout);

  [[nodiscard]] absl::StatusOr<SublayerActivations> NewActivations(kernels::Device& device,
                                                                   PassShape shape) const;
  // x [B, T, C] -> y; x must stay unchanged until Backward.
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, Forwards f,
                       SublayerActivations& activations, kernels::Tensor& y) const;
  // `gradient` holds dy when called and dx afterwards. Parameter gradients are added, and to d_bias
  // (absent: f has none) that of the bias which f adds last: the sum of d_out's rows, which the
  // norm's backward pass can give. What f has left for its backward pass is that of the Forward
  // before.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        Backwards f, kernels::Tensor d_bias, SublayerActivations& activations,
                        kernels::Tensor& gradient) const;

 private:
  const int64_t width_;
  const NormPlacement placement_;
  const Norm norm_;
  const Dropout dropout_;
};

}  // namespace weft::worker
