#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/layer_norm/layer_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& w, const Tensor& b,
                              double eps, Tensor& y, Tensor& mean, Tensor& rstd) {
  const int64_t channels = w.count();
  const auto count = static_cast<double>(channels);
  for (int64_t r = 0; r < RowsOf(x); ++r) {
    const double* row = x.data<double>() + r * channels;
    double* result = y.data<double>() + r * channels;
    double sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += row[c];
    const double centre = sum / count;
    double squares = 0;
    for (int64_t c = 0; c < channels; ++c) squares += (row[c] - centre) * (row[c] - centre);
    const double inverse = 1 / std::sqrt(squares / count + eps);
    mean.data<double>()[r] = centre;
    rstd.data<double>()[r] = inverse;
    for (int64_t c = 0; c < channels; ++c) {
      result[c] = w.data<double>()[c] * (row[c] - centre) * inverse + b.data<double>()[c];
    }
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& mean,
                               const Tensor& rstd, const Tensor& dy, Tensor& dx,
                               Accumulate accumulate, Tensor& dw, Tensor& db, Tensor& dx_sums) {
  if (dx_sums.present()) WEFT_RETURN_IF_ERROR(BiasBackward(stream, dx, dx_sums));
  const int64_t channels = w.count();
  const auto count = static_cast<double>(channels);
  const double* weights = w.data<double>();
  for (int64_t r = 0; r < RowsOf(x); ++r) {
    const double* row = x.data<double>() + r * channels;
    const double* slopes = dy.data<double>() + r * channels;
    double* result = dx.data<double>() + r * channels;
    const double inverse = rstd.data<double>()[r];
    const auto normal = [&](int64_t c) { return (row[c] - mean.data<double>()[r]) * inverse; };
    double mean_g = 0;
    double mean_gn = 0;
    for (int64_t c = 0; c < channels; ++c) {
      mean_g += weights[c] * slopes[c] / count;
      mean_gn += weights[c] * slopes[c] * normal(c) / count;
    }
    for (int64_t c = 0; c < channels; ++c) {
      const double slope = slopes[c];  // read first: dx may be dy
      const double value = inverse * (weights[c] * slope - mean_g - normal(c) * mean_gn);
      dw.data<double>()[c] += slope * normal(c);
      db.data<double>()[c] += slope;
      result[c] = accumulate == Accumulate::kYes ? result[c] + value : value;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceLayerNorm() {
  layer_norm_forward.Set(DeviceKind::kReference, ForwardReference);
  layer_norm_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
