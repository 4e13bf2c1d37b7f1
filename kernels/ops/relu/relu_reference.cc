#include "kernels/ops/relu/relu_table.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, Tensor& y) {
  for (int64_t i = 0; i < x.count(); ++i) {
    const double value = x.data<double>()[i];
    y.data<double>()[i] = value < 0 ? 0 : value;
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& y, const Tensor& dy, Tensor& dx) {
  for (int64_t i = 0; i < y.count(); ++i) {
    dx.data<double>()[i] = y.data<double>()[i] > 0 ? dy.data<double>()[i] : 0;
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceRelu() {
  relu_forward.Set(DeviceKind::kReference, ForwardReference);
  relu_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
