#include "kernels/ops/sigmoid/sigmoid.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/sigmoid/sigmoid_table.h"

namespace weft::kernels {

absl::Status SigmoidForward(Stream& stream, const Tensor& x, double scale, Tensor& y) {
  OperandCheck check("SigmoidForward", stream);
  check.Compute("x", x).Require(scale != 0, "scale is 0");
  if (check.ok()) check.SumShaped("y", y, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::sigmoid_forward.Call(stream, x, scale, y);
}

absl::Status SigmoidBackward(Stream& stream, const Tensor& y, double scale, const Tensor& dy,
                             Tensor& dx) {
  OperandCheck check("SigmoidBackward", stream);
  check.SumShaped("y", y, y.shape()).Require(scale != 0, "scale is 0");
  if (check.ok()) check.SumShaped("dy", dy, y.shape()).Shaped("dx", dx, y.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::sigmoid_backward.Call(stream, y, scale, dy, dx);
}

}  // namespace weft::kernels
