#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/rms_norm/rms_norm_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& w, double eps,
                              Tensor& y, Tensor& rstd) {
  const int64_t channels = w.count();
  const double* weights = w.data<double>();
  for (int64_t r = 0; r < RowsOf(x); ++r) {
    const double* row = x.data<double>() + r * channels;
    double* result = y.data<double>() + r * channels;
    double sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += row[c] * row[c];
    const double inverse = 1 / std::sqrt(sum / static_cast<double>(channels) + eps);
    rstd.data<double>()[r] = inverse;
    for (int64_t c = 0; c < channels; ++c) result[c] = weights[c] * row[c] * inverse;
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& rstd,
                               const Tensor& dy, Tensor& dx, Accumulate accumulate, Tensor& dw,
                               Tensor& dx_sums) {
  if (dx_sums.present()) WEFT_RETURN_IF_ERROR(BiasBackward(stream, dx, dx_sums));
  const int64_t channels = w.count();
  const double* weights = w.data<double>();
  double* weight_slopes = dw.data<double>();
  for (int64_t r = 0; r < RowsOf(x); ++r) {
    const double* row = x.data<double>() + r * channels;
    const double* slopes = dy.data<double>() + r * channels;
    double* result = dx.data<double>() + r * channels;
    const double inverse = rstd.data<double>()[r];
    double mean = 0;  // of g * x, g = w * dy
    for (int64_t c = 0; c < channels; ++c) {
      mean += weights[c] * slopes[c] * row[c] / static_cast<double>(channels);
    }
    for (int64_t c = 0; c < channels; ++c) {
      const double slope = slopes[c];  // read first: dx may be dy
      const double value = inverse * (weights[c] * slope - row[c] * inverse * inverse * mean);
      weight_slopes[c] += slope * row[c] * inverse;
      result[c] = accumulate == Accumulate::kYes ? result[c] + value : value;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceRmsNorm() {
  rms_norm_forward.Set(DeviceKind::kReference, ForwardReference);
  rms_norm_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
