#include <cmath>

#include "kernels/ops/l2_norm/l2_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, double eps, double scale,
                              Tensor& y, Tensor& inverse_norm) {
  const int64_t width = x.dim(-1);
  for (int64_t r = 0; r < RowsOf(x); ++r) {
    const double* row = x.data<double>() + r * width;
    double* result = y.data<double>() + r * width;
    double sum = eps;
    for (int64_t d = 0; d < width; ++d) sum += row[d] * row[d];
    const double inverse = 1 / std::sqrt(sum);
    inverse_norm.data<double>()[r] = inverse;
    for (int64_t d = 0; d < width; ++d) result[d] = scale * row[d] * inverse;
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& y, const Tensor& inverse_norm,
                               double scale, const Tensor& dy, Tensor& dx) {
  const int64_t width = y.dim(-1);
  for (int64_t r = 0; r < RowsOf(y); ++r) {
    const double* row = y.data<double>() + r * width;
    const double* slopes = dy.data<double>() + r * width;
    double* result = dx.data<double>() + r * width;
    const double inverse = inverse_norm.data<double>()[r];
    double dot = 0;
    for (int64_t d = 0; d < width; ++d) dot += row[d] * slopes[d];
    for (int64_t d = 0; d < width; ++d) {
      result[d] = inverse * (scale * slopes[d] - row[d] * dot / scale);
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceL2Norm() {
  l2_norm_forward.Set(DeviceKind::kReference, ForwardReference);
  l2_norm_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
