#include "kernels/ops/bias/bias_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels::internal {
namespace {

absl::Status ForwardReference(Stream& /*stream*/, const Tensor& x, const Tensor& bias, Tensor& y) {
  const int64_t channels = bias.count();
  for (int64_t r = 0; r < RowsOf(x); ++r) {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t i = r * channels + c;
      y.data<double>()[i] = x.data<double>()[i] + bias.data<double>()[c];
    }
  }
  return absl::OkStatus();
}

absl::Status BackwardReference(Stream& /*stream*/, const Tensor& dy, Tensor& dbias) {
  const int64_t channels = dbias.count();
  for (int64_t r = 0; r < RowsOf(dy); ++r) {
    for (int64_t c = 0; c < channels; ++c) {
      dbias.data<double>()[c] += dy.data<double>()[r * channels + c];
    }
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterReferenceBias() {
  bias_forward.Set(DeviceKind::kReference, ForwardReference);
  bias_backward.Set(DeviceKind::kReference, BackwardReference);
}

}  // namespace weft::kernels::internal
