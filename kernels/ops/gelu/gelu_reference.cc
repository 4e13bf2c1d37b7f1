#include <cmath>
#include <numbers>

#include "kernels/ops/gelu/gelu_table.h"

namespace weft::kernels::internal {
namespace {

struct Point {
  double value;
  double slope;
};

Point ExactAt(double x) {
  const double below = std::erfc(-x / std::numbers::sqrt2) / 2;
  const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
  return {x * below, below + x * density};
}

Point TanhAt(double x) {
  const double factor = std::sqrt(2 / std::numbers::pi);
  const double t = std::tanh(factor * (x + 0.044715 * x * x * x));
  const double d_t = (1 - t * t) * factor * (1 + 3 * 0.044715 * x * x);
  return {x * (1 + t) / 2, (1 + t) / 2 + x * d_t / 2};
}

Point At(GeluForm form, double x) { return form == GeluForm::kExact ? ExactAt(x) : TanhAt(x); }

absl::Status ForwardReference(Stream& /*stream*/, GeluForm form, const Tensor& x, Tensor& y) {
  for (int64_t i = 0; i < x.count(); ++i) {
    y.data<double>()[i] = At(form, x.data<double>()[i]).value;
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, GeluForm form, const Tensor& x, const Tensor& dy,
                               Tensor& dx) {
  for (int64_t i = 0; i < x.count(); ++i) {
    dx.data<double>()[i] = dy.data<double>()[i] * At(form, x.data<double>()[i]).slope;
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceGelu() {
  gelu_forward.Set(DeviceKind::kReference, ForwardReference);
  gelu_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
