#include "common/base/status_macros.h"
#include "kernels/ops/bias/bias.h"
#include "kernels/ops/gelu/gelu.h"
#include "kernels/ops/linear/linear.h"
#include "kernels/ops/linear_gelu/linear_gelu_table.h"

namespace weft::kernels::internal {

absl::Status ComposedLinearGeluForward(Stream& stream, const Tensor& x, const Tensor& w,
                                       const Tensor& bias, Tensor& before, Tensor& y) {
  WEFT_RETURN_IF_ERROR(LinearForward(stream, x, w, bias, /*residual=*/Tensor(), before));
  return GeluForward(stream, GeluForm::kTanh, before, y);
}

absl::Status ComposedLinearBackwardGelu(Stream& stream, const Tensor& dy, const Tensor& w,
                                        const Tensor& before, Tensor& dx, Tensor& dbias) {
  WEFT_RETURN_IF_ERROR(LinearBackwardInput(stream, dy, w, dx, Accumulate::kNo));
  WEFT_RETURN_IF_ERROR(GeluBackward(stream, GeluForm::kTanh, before, dx, dx));
  return dbias.present() ? BiasBackward(stream, dx, dbias) : absl::OkStatus();
}

void RegisterCpuLinearGelu() {
  linear_gelu_forward.Set(DeviceKind::kCpu, ComposedLinearGeluForward);
  linear_backward_gelu.Set(DeviceKind::kCpu, ComposedLinearBackwardGelu);
}

void RegisterReferenceLinearGelu() {
  linear_gelu_forward.Set(DeviceKind::kReference, ComposedLinearGeluForward);
  linear_backward_gelu.Set(DeviceKind::kReference, ComposedLinearBackwardGelu);
}

}  // namespace weft::kernels::internal
