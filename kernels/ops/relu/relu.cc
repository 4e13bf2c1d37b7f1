#include "kernels/ops/relu/relu.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/relu/relu_table.h"

namespace weft::kernels {

absl::Status ReluForward(Stream& stream, const Tensor& x, Tensor& y) {
  OperandCheck check("ReluForward", stream);
  check.Compute("x", x);
  if (check.ok()) check.Shaped("y", y, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::relu_forward.Call(stream, x, y);
}

absl::Status ReluBackward(Stream& stream, const Tensor& y, const Tensor& dy, Tensor& dx) {
  OperandCheck check("ReluBackward", stream);
  check.Compute("y", y);
  if (check.ok()) check.Shaped("dy", dy, y.shape()).Shaped("dx", dx, y.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::relu_backward.Call(stream, y, dy, dx);
}

}  // namespace weft::kernels
