#include <cmath>

#include "kernels/ops/sigmoid/sigmoid_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, double scale, Tensor& y) {
  for (int64_t i = 0; i < x.count(); ++i) {
    y.data<double>()[i] = scale / (1 + std::exp(-x.data<double>()[i]));
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& y, double scale, const Tensor& dy,
                               Tensor& dx) {
  for (int64_t i = 0; i < y.count(); ++i) {
    const double value = y.data<double>()[i];
    dx.data<double>()[i] = dy.data<double>()[i] * value * (1 - value / scale);
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceSigmoid() {
  sigmoid_forward.Set(DeviceKind::kReference, ForwardReference);
  sigmoid_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
