#include <cmath>

#include "kernels/ops/silu/silu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, Tensor& y) {
  for (int64_t i = 0; i < x.count(); ++i) {
    const double value = x.data<double>()[i];
    y.data<double>()[i] = value / (1 + std::exp(-value));
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& dy, Tensor& dx) {
  for (int64_t i = 0; i < x.count(); ++i) {
    const double value = x.data<double>()[i];
    const double s = 1 / (1 + std::exp(-value));
    dx.data<double>()[i] = dy.data<double>()[i] * s * (1 + value * (1 - s));
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceSilu() {
  silu_forward.Set(DeviceKind::kReference, ForwardReference);
  silu_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
