#include "kernels/ops/bias/bias.h"

#include "common/base/status_macros.h"
#include "kernels/ops/bias/bias_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status BiasForward(Stream& stream, const Tensor& x, const Tensor& bias, Tensor& y) {
  OperandCheck check("BiasForward", stream);
  check.Compute("x", x, 1);
  if (check.ok()) check.Counted("bias", bias, x.dim(-1)).Shaped("y", y, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::bias_forward.Call(stream, x, bias, y);
}

absl::Status BiasBackward(Stream& stream, const Tensor& dy, Tensor& dbias) {
  OperandCheck check("BiasBackward", stream);
  check.Compute("dy", dy, 1);
  if (check.ok()) check.SumCounted("dbias", dbias, dy.dim(-1));
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::bias_backward.Call(stream, dy, dbias);
}

}  // namespace weft::kernels
