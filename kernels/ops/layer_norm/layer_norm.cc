#include "kernels/ops/layer_norm/layer_norm.h"

#include "common/base/status_macros.h"
#include "kernels/ops/layer_norm/layer_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status LayerNormForward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& b,
                              double eps, Tensor& y, Tensor& mean, Tensor& rstd) {
  OperandCheck check("LayerNormForward", stream);
  check.Compute("x", x, 1);
  if (check.ok()) {
    check.Shaped("w", w, {x.dim(-1)}).Shaped("b", b, {x.dim(-1)}).Shaped("y", y, x.shape());
    check.SumCounted("mean", mean, RowsOf(x)).SumCounted("rstd", rstd, RowsOf(x));
  }
  check.Require(eps >= 0, absl::StrCat("eps is ", eps));
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::layer_norm_forward.Call(stream, x, w, b, eps, y, mean, rstd);
}

absl::Status LayerNormBackward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& mean,
                               const Tensor& rstd, const Tensor& dy, Tensor& dx,
                               Accumulate accumulate, Tensor& dw, Tensor& db, Tensor& dx_sums) {
  OperandCheck check("LayerNormBackward", stream);
  check.Compute("x", x, 1);
  if (check.ok()) {
    check.Shaped("w", w, {x.dim(-1)});
    check.SumCounted("mean", mean, RowsOf(x)).SumCounted("rstd", rstd, RowsOf(x));
    check.Shaped("dy", dy, x.shape()).Shaped("dx", dx, x.shape());
    check.SumShaped("dw", dw, {x.dim(-1)}).SumShaped("db", db, {x.dim(-1)});
    if (dx_sums.present()) check.SumCounted("dx_sums", dx_sums, x.dim(-1));
  }
  check.Require(!dx_sums.present() || accumulate == Accumulate::kYes,
                "dx_sums are of a dx that is added to");
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::layer_norm_backward.Call(stream, x, w, mean, rstd, dy, dx, accumulate, dw, db,
                                            dx_sums);
}

}  // namespace weft::kernels
