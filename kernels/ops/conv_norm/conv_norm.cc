#include "kernels/ops/conv_norm/conv_norm.h"

#include "common/base/status_macros.h"
#include "kernels/ops/conv_norm/conv_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

// Of heads of the last dimension of y. The convolution's own operands are checked by whoever
// computes it.
void CheckHeads(OperandCheck& check, const Tensor& x, const Tensor& w, absl::string_view name,
                const Tensor& y) {
  check.Compute("x", x, 3).Compute("w", w, 2).Compute(name, y, 4);
  if (!check.ok()) return;
  check.Require(x.shape().rank() == 3 && y.shape().rank() == 4 && y.dim(0) == x.dim(0) &&
                    y.dim(1) == x.dim(1) && y.dim(2) * y.dim(3) == x.dim(2),
                absl::StrCat("x is ", x.ToString(), " and ", name, " is ", y.ToString(),
                             ", expected [B,T,C] and [B,T,H,D] with H D = C"));
}

}  // namespace

absl::Status ConvNormForward(Stream& stream, const Tensor& x, const Tensor& w,
                             const Tensor& history, double eps, double scale, Tensor& y,
                             Tensor& inverse_norm) {
  OperandCheck check("ConvNormForward", stream);
  CheckHeads(check, x, w, "y", y);
  if (check.ok()) check.SumCounted("inverse_norm", inverse_norm, RowsOf(y));
  check.Require(eps >= 0, absl::StrCat("eps is ", eps)).Require(scale != 0, "scale is 0");
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::conv_norm_forward.Call(stream, x, w, history, eps, scale, y, inverse_norm);
}

absl::Status ConvNormBackward(Stream& stream, const Tensor& x, const Tensor& w,
                              const Tensor& history, double scale, const Tensor& y,
                              const Tensor& inverse_norm, const Tensor& dy, Tensor& space,
                              Tensor& dx, Tensor& d_history, Tensor& dw) {
  OperandCheck check("ConvNormBackward", stream);
  CheckHeads(check, x, w, "y", y);
  if (check.ok()) {
    check.SumCounted("inverse_norm", inverse_norm, RowsOf(y)).Shaped("dy", dy, y.shape());
    check.Shaped("space", space, x.shape()).Shaped("dx", dx, x.shape());
    check.SumShaped("dw", dw, w.shape());
  }
  check.Require(scale != 0, "scale is 0");
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::conv_norm_backward.Call(stream, x, w, history, scale, y, inverse_norm, dy, space,
                                           dx, d_history, dw);
}

}  // namespace weft::kernels
