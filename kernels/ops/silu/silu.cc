#include "kernels/ops/silu/silu.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/silu/silu_table.h"

namespace weft::kernels {

absl::Status SiluForward(Stream& stream, const Tensor& x, Tensor& y) {
  OperandCheck check("SiluForward", stream);
  check.Compute("x", x);
  if (check.ok()) check.Shaped("y", y, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::silu_forward.Call(stream, x, y);
}

absl::Status SiluBackward(Stream& stream, const Tensor& x, const Tensor& dy, Tensor& dx) {
  OperandCheck check("SiluBackward", stream);
  check.Compute("x", x);
  if (check.ok()) check.Shaped("dy", dy, x.shape()).Shaped("dx", dx, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::silu_backward.Call(stream, x, dy, dx);
}

}  // namespace weft::kernels
