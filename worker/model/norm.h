// Norm: a norm over channels as a part of a model: RMSNorm, or LayerNorm with scale and shift.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/ops/accumulate.h"
#include "kernels/tensor/tensor.h"
#include "worker/model/parameter_layout.h"
#include "worker/model/pass.h"

namespace weft::worker {

enum class NormKind : uint8_t { kRms, kLayer };

// What a norm's forward pass leaves for its backward pass.
struct NormStatistics {
  kernels::Tensor mean;  // [rows], of kLayer only
  kernels::Tensor rstd;  // [rows]
};

// Immutable; any number of passes may use it at a time.
class Norm {
 public:
  // Adds "<prefix>.weight" [width] and, for kLayer, "<prefix>.bias" [width].
  Norm(NormKind kind, absl::string_view prefix, int64_t width, double epsilon,
       ParameterLayout& layout);

  [[nodiscard]] absl::StatusOr<NormStatistics> NewStatistics(kernels::Device& device,
                                                             int64_t rows) const;
  // x [..., C] -> y; y may be x itself, but then there is no backward pass.
  absl::Status Forward(const Pass& pass, const kernels::Tensor& x, NormStatistics& statistics,
                       kernels::Tensor& y) const;
  // x and the statistics are the forward pass's. dx may be dy itself when it is overwritten.
  // Parameter gradients are added. When dx is added to, the sums of its rows as they were are added
  // to dx_sums [C] (absent: not wanted), for no more than an addition an element.
  absl::Status Backward(const Pass& pass, const ParameterBlock& gradients, const kernels::Tensor& x,
                        const NormStatistics& statistics, const kernels::Tensor& dy,
                        kernels::Accumulate accumulate, kernels::Tensor& dx,
                        kernels::Tensor dx_sums = {}) const;

 private:
  double epsilon_;
  ParameterIndex weight_;
  std::optional<ParameterIndex> shift_;  // of kLayer
};

}  // namespace weft::worker
