#include "kernels/ops/gelu/gelu.h"

#include "common/base/status_macros.h"
#include "kernels/ops/gelu/gelu_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status GeluForward(Stream& stream, GeluForm form, const Tensor& x, Tensor& y) {
  OperandCheck check("GeluForward", stream);
  check.Compute("x", x);
  if (check.ok()) check.Shaped("y", y, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::gelu_forward.Call(stream, form, x, y);
}

absl::Status GeluBackward(Stream& stream, GeluForm form, const Tensor& x, const Tensor& dy,
                          Tensor& dx) {
  OperandCheck check("GeluBackward", stream);
  check.Compute("x", x);
  if (check.ok()) check.Shaped("dy", dy, x.shape()).Shaped("dx", dx, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::gelu_backward.Call(stream, form, x, dy, dx);
}

}  // namespace weft::kernels
