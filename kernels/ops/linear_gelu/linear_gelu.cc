#include "kernels/ops/linear_gelu/linear_gelu.h"

#include "common/base/status_macros.h"
#include "kernels/ops/linear_gelu/linear_gelu_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status LinearGeluForward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                               Tensor& before, Tensor& y) {
  OperandCheck check("LinearGeluForward", stream);
  check.Mapped("x", x, "w", w, stream.device().compute_dtype(), "y", y);
  if (check.ok()) check.Shaped("before", before, y.shape());
  if (check.ok() && bias.present()) check.Shaped("bias", bias, {w.dim(0)});
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_gelu_forward.Call(stream, x, w, bias, before, y);
}

absl::Status LinearBackwardGelu(Stream& stream, const Tensor& dy, const Tensor& w,
                                const Tensor& before, Tensor& dx, Tensor& dbias) {
  OperandCheck check("LinearBackwardGelu", stream);
  check.Mapped("dx", dx, "w", w, stream.device().compute_dtype(), "dy", dy);
  if (check.ok()) check.Shaped("before", before, dx.shape());
  if (check.ok() && dbias.present()) check.SumShaped("dbias", dbias, {w.dim(1)});
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_backward_gelu.Call(stream, dy, w, before, dx, dbias);
}

}  // namespace weft::kernels
