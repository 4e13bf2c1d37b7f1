#include <cmath>

#include "kernels/ops/gradient_norm/gradient_norm_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status SumOfSquaresReference(Stream& /*stream*/, const Tensor& x, Tensor& out) {
  double sum = 0;
  for (int64_t i = 0; i < x.count(); ++i) sum += x.data<double>()[i] * x.data<double>()[i];
  out.data<double>()[0] = sum;
  return absl::OkStatus();
}

absl::Status ClipFactorReference(Stream& /*stream*/, const Tensor& sum_of_squares, double max_norm,
                                 Tensor& clip) {
  clip.data<double>()[0] = ClipFactorFor(sum_of_squares.data<double>()[0], max_norm);
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceGradientNorm() {
  sum_of_squares.Set(DeviceKind::kReference, SumOfSquaresReference);
  clip_factor.Set(DeviceKind::kReference, ClipFactorReference);
}

}  // namespace weft::kernels::internal
