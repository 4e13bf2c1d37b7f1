// Linear: a linear map with or without a bias, y = x W^T + b, wherever a model has one: around
// attention, in the MLP, in heads.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/ops/accumulate.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/pass.h"

namespace weft::worker {

// Immutable; any number of passes may use it at a time. Tensors may have any shape: their elements
// are rows of in() or out(), so heads need no reshaping.
class Linear {
 public:
  // Adds "<prefix>.weight" [out, in] and, with a bias, "<prefix>.bias" [out].
  Linear(absl::string_view prefix, int64_t in, int64_t out, bool bias, ParameterLayout& layout);

  // y = x W^T + b + residual (absent: none); y is overwritten.
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, const kernels::Tensor& residual,
                       kernels::Tensor& y) const;
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, kernels::Tensor& y) const {
    return Forward(pass, x, /*residual=*/kernels::Tensor(), y);
  }
  // before = x W^T + b; y = GELU(before) in its tanh form.
  absl::Status ForwardGelu(const Pass& pass, const kernels::Tensor& x, kernels::Tensor& before,
                           kernels::Tensor& y) const;
  // dy and the forward pass's x give dx; parameter gradients are added to `gradients`.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        const kernels::Tensor& dy, kernels::Accumulate accumulate,
                        kernels::Tensor& dx) const;

  // Backward for a caller who adds the bias's gradient himself: this one, absent without a bias.
  absl::Status BackwardButBias(const Pass& pass, const ParameterBlock& gradients,
                               const kernels::Tensor& x, const kernels::Tensor& dy,
                               kernels::Accumulate accumulate, kernels::Tensor& dx) const;
  // The same where x is GELU(before): gives the gradient of `before`, and adds the sums of its rows
  // to d_before_bias (absent: not wanted), which is that of a bias added there.
  absl::Status BackwardGeluButBias(const Pass& pass, const ParameterBlock& gradients,
                                   const kernels::Tensor& x, const kernels::Tensor& dy,
                                   const kernels::Tensor& before, kernels::Tensor& d_before,
                                   kernels::Tensor& d_before_bias) const;
  [[nodiscard]] kernels::Tensor BiasIn(const ParameterBlock& block) const {
    return bias_ ? block[*bias_] : kernels::Tensor();
  }

  [[nodiscard]] int64_t in() const { return in_; }
  [[nodiscard]] int64_t out() const { return out_; }
  // Of the matrix product, for one row.
  [[nodiscard]] int64_t FlopsPerRow() const { return 2 * in_ * out_; }

 private:
  absl::Status WeightBackward(const Pass& pass, const ParameterBlock& gradients,
                              const kernels::Tensor& x, const kernels::Tensor& dy) const;

  int64_t in_, out_;
  ParameterIndex weight_;
  std::optional<ParameterIndex> bias_;
};

}  // namespace weft::worker
