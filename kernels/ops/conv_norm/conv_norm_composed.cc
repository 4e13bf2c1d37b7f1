#include "common/base/status_macros.h"
#include "kernels/ops/conv_norm/conv_norm_table.h"
#include "kernels/ops/l2_norm/l2_norm.h"
#include "kernels/ops/short_conv/short_conv.h"

namespace weft::kernels::internal {

absl::Status ComposedConvNormForward(Stream& stream, const Tensor& x, const Tensor& w,
                                     const Tensor& history, double eps, double scale, Tensor& y,
                                     Tensor& inverse_norm) {
  Tensor activated = y.Reshaped(x.shape());
  WEFT_RETURN_IF_ERROR(ShortConvForward(stream, x, w, history, activated));
  return L2NormForward(stream, y, eps, scale, y, inverse_norm);
}

absl::Status ComposedConvNormBackward(Stream& stream, const Tensor& x, const Tensor& w,
                                      const Tensor& history, double scale, const Tensor& y,
                                      const Tensor& inverse_norm, const Tensor& dy, Tensor& space,
                                      Tensor& dx, Tensor& d_history, Tensor& dw) {
  Tensor d_activated = space.Reshaped(y.shape());
  WEFT_RETURN_IF_ERROR(L2NormBackward(stream, y, inverse_norm, scale, dy, d_activated));
  return ShortConvBackward(stream, x, w, history, space, dx, d_history, dw);
}

void RegisterCpuConvNorm() {
  conv_norm_forward.Set(DeviceKind::kCpu, ComposedConvNormForward);
  conv_norm_backward.Set(DeviceKind::kCpu, ComposedConvNormBackward);
}

void RegisterReferenceConvNorm() {
  conv_norm_forward.Set(DeviceKind::kReference, ComposedConvNormForward);
  conv_norm_backward.Set(DeviceKind::kReference, ComposedConvNormBackward);
}

}  // namespace weft::kernels::internal
