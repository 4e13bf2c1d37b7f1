#include "kernels/ops/l2_norm/l2_norm.h"

#include "common/base/status_macros.h"
#include "kernels/ops/l2_norm/l2_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status L2NormForward(Stream& stream, const Tensor& x, double eps, double scale, Tensor& y,
                           Tensor& inverse_norm) {
  OperandCheck check("L2NormForward", stream);
  check.Compute("x", x, 1);
  if (check.ok()) {
    check.Shaped("y", y, x.shape()).SumCounted("inverse_norm", inverse_norm, RowsOf(x));
  }
  check.Require(eps >= 0, absl::StrCat("eps is ", eps)).Require(scale != 0, "scale is 0");
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::l2_norm_forward.Call(stream, x, eps, scale, y, inverse_norm);
}

absl::Status L2NormBackward(Stream& stream, const Tensor& y, const Tensor& inverse_norm,
                            double scale, const Tensor& dy, Tensor& dx) {
  OperandCheck check("L2NormBackward", stream);
  check.Compute("y", y, 1);
  if (check.ok()) {
    check.SumCounted("inverse_norm", inverse_norm, RowsOf(y));
    check.Shaped("dy", dy, y.shape()).Shaped("dx", dx, y.shape());
  }
  check.Require(scale != 0, "scale is 0");
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::l2_norm_backward.Call(stream, y, inverse_norm, scale, dy, dx);
}

}  // namespace weft::kernels
