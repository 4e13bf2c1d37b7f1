#include "kernels/ops/rms_norm/rms_norm.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/rms_norm/rms_norm_table.h"

namespace weft::kernels {

absl::Status RmsNormForward(Stream& stream, const Tensor& x, const Tensor& w, double eps, Tensor& y,
                            Tensor& rstd) {
  OperandCheck check("RmsNormForward", stream);
  check.Compute("x", x, 1);
  if (check.ok()) {
    check.Shaped("w", w, {x.dim(-1)}).Shaped("y", y, x.shape()).SumCounted("rstd", rstd, RowsOf(x));
  }
  check.Require(eps >= 0, absl::StrCat("eps is ", eps));
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::rms_norm_forward.Call(stream, x, w, eps, y, rstd);
}

absl::Status RmsNormBackward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& rstd,
                             const Tensor& dy, Tensor& dx, Accumulate accumulate, Tensor& dw,
                             Tensor& dx_sums) {
  OperandCheck check("RmsNormBackward", stream);
  check.Compute("x", x, 1);
  if (check.ok()) {
    check.Shaped("w", w, {x.dim(-1)}).SumCounted("rstd", rstd, RowsOf(x));
    check.Shaped("dy", dy, x.shape()).Shaped("dx", dx, x.shape()).SumShaped("dw", dw, {x.dim(-1)});
    if (dx_sums.present()) check.SumCounted("dx_sums", dx_sums, x.dim(-1));
  }
  check.Require(!dx_sums.present() || accumulate == Accumulate::kYes,
                "dx_sums are of a dx that is added to");
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::rms_norm_backward.Call(stream, x, w, rstd, dy, dx, accumulate, dw, dx_sums);
}

}  // namespace weft::kernels
