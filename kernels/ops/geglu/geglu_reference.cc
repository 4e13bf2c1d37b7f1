#include <cmath>
#include <numbers>

#include "kernels/ops/geglu/geglu_table.h"

namespace weft::kernels::internal {
namespace {

struct ValueAndSlope {
  double value, slope;
};

ValueAndSlope Gelu(GeluForm form, double x) {
  if (form == GeluForm::kExact) {
    const double phi = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double density = std::exp(-0.5 * x * x) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    return {x * phi, phi + x * density};
  }
  const double kappa = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;  // sqrt(2 / pi)
  const double t = std::tanh(kappa * (x + 0.044715 * x * x * x));
  const double inner = kappa * (1 + 3 * 0.044715 * x * x);
  return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner};
}

absl::Status ForwardReference(Stream& /*stream*/, GeluForm form, const Tensor& gate,
                              const Tensor& up, Tensor& y) {
  for (int64_t i = 0; i < gate.count(); ++i) {
    y.data<double>()[i] = Gelu(form, gate.data<double>()[i]).value * up.data<double>()[i];
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, GeluForm form, const Tensor& gate,
                               const Tensor& up, const Tensor& dy, Tensor& dgate, Tensor& dup) {
  for (int64_t i = 0; i < gate.count(); ++i) {
    const ValueAndSlope gelu = Gelu(form, gate.data<double>()[i]);
    const double u = up.data<double>()[i];
    const double slope = dy.data<double>()[i];
    dgate.data<double>()[i] = slope * u * gelu.slope;
    dup.data<double>()[i] = slope * gelu.value;
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceGeglu() {
  geglu_forward.Set(DeviceKind::kReference, ForwardReference);
  geglu_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
