#include "kernels/ops/linear/linear.h"

#include "common/base/status_macros.h"
#include "kernels/ops/linear/linear_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status LinearForward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                           const Tensor& residual, Tensor& y) {
  OperandCheck check("LinearForward", stream);
  check.Mapped("x", x, "w", w, stream.device().compute_dtype(), "y", y);
  if (check.ok() && bias.present()) check.Shaped("bias", bias, {w.dim(0)});
  if (check.ok() && residual.present()) check.Shaped("residual", residual, y.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_forward.Call(stream, x, w, bias, residual, y);
}

absl::Status LinearBackwardInput(Stream& stream, const Tensor& dy, const Tensor& w, Tensor& dx,
                                 Accumulate accumulate) {
  OperandCheck check("LinearBackwardInput", stream);
  check.Mapped("dx", dx, "w", w, stream.device().compute_dtype(), "dy", dy);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_backward_input.Call(stream, dy, w, dx, accumulate);
}

absl::Status LinearBackwardWeight(Stream& stream, const Tensor& dy, const Tensor& x, Tensor& dw) {
  OperandCheck check("LinearBackwardWeight", stream);
  check.Mapped("x", x, "dw", dw, stream.device().sum_dtype(), "dy", dy);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_backward_weight.Call(stream, dy, x, dw);
}

}  // namespace weft::kernels
