#include <cmath>

#include "kernels/ops/swiglu/swiglu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& gate, const Tensor& up, Tensor& y) {
  for (int64_t i = 0; i < gate.count(); ++i) {
    const double g = gate.data<double>()[i];
    y.data<double>()[i] = g / (1 + std::exp(-g)) * up.data<double>()[i];
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& gate, const Tensor& up,
                               const Tensor& dy, Tensor& dgate, Tensor& dup) {
  for (int64_t i = 0; i < gate.count(); ++i) {
    const double g = gate.data<double>()[i];
    const double u = up.data<double>()[i];
    const double slope = dy.data<double>()[i];
    const double s = 1 / (1 + std::exp(-g));
    dgate.data<double>()[i] = slope * u * s * (1 + g * (1 - s));
    dup.data<double>()[i] = slope * g * s;
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceSwiglu() {
  swiglu_forward.Set(DeviceKind::kReference, ForwardReference);
  swiglu_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
