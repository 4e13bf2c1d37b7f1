#include <algorithm>

#include "kernels/ops/linear/linear_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& w,
                              const Tensor& bias, const Tensor& residual, Tensor& y) {
  const int64_t rows = RowsOf(x);
  const int64_t outputs = w.dim(0);
  const int64_t inputs = w.dim(1);
  for (int64_t r = 0; r < rows; ++r) {
    const double* row = x.data<double>() + r * inputs;
    for (int64_t n = 0; n < outputs; ++n) {
      const double* weights = w.data<double>() + n * inputs;
      double sum = bias.present() ? bias.data<double>()[n] : 0;
      if (residual.present()) sum += residual.data<double>()[r * outputs + n];
      for (int64_t k = 0; k < inputs; ++k) sum += row[k] * weights[k];
      y.data<double>()[r * outputs + n] = sum;
    }
  }
  return absl::OkStatus();
}

absl::Status BackwardInputReference(Stream& /*stream*/, const Tensor& dy, const Tensor& w,
                                    Tensor& dx, Accumulate accumulate) {
  const int64_t rows = RowsOf(dy);
  const int64_t outputs = w.dim(0);
  const int64_t inputs = w.dim(1);
  for (int64_t r = 0; r < rows; ++r) {
    double* row = dx.data<double>() + r * inputs;
    if (accumulate == Accumulate::kNo) std::fill_n(row, inputs, 0.0);
    for (int64_t n = 0; n < outputs; ++n) {
      const double slope = dy.data<double>()[r * outputs + n];
      const double* weights = w.data<double>() + n * inputs;
      for (int64_t k = 0; k < inputs; ++k) row[k] += slope * weights[k];
    }
  }
  return absl::OkStatus();
}

absl::Status BackwardWeightReference(Stream& /*stream*/, const Tensor& dy, const Tensor& x,
                                     Tensor& dw) {
  const int64_t rows = RowsOf(dy);
  const int64_t outputs = dw.dim(0);
  const int64_t inputs = dw.dim(1);
  for (int64_t r = 0; r < rows; ++r) {
    const double* row = x.data<double>() + r * inputs;
    for (int64_t n = 0; n < outputs; ++n) {
      const double slope = dy.data<double>()[r * outputs + n];
      double* weights = dw.data<double>() + n * inputs;
      for (int64_t k = 0; k < inputs; ++k) weights[k] += slope * row[k];
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceLinear() {
  linear_forward.Set(DeviceKind::kReference, ForwardReference);
  linear_backward_input.Set(DeviceKind::kReference, BackwardInputReference);
  linear_backward_weight.Set(DeviceKind::kReference, BackwardWeightReference);
}

}  // namespace weft::kernels::internal
