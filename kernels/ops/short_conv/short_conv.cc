#include "kernels/ops/short_conv/short_conv.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/short_conv/short_conv_table.h"

namespace weft::kernels {
namespace {

void CheckOperands(OperandCheck& check, const Tensor& x, const Tensor& w, const Tensor& history) {
  check.Compute("x", x, 3).Compute("w", w, 2);
  if (!check.ok()) return;
  check.Require(x.shape().rank() == 3, absl::StrCat("x is ", x.ToString(), ", expected [B,T,C]"));
  check.Require(
      w.shape().rank() == 2 && w.dim(1) >= 1 && w.dim(1) <= kShortConvTaps,
      absl::StrCat("w is ", w.ToString(), ", expected [C,W] with 1 to ", kShortConvTaps, " taps"));
  if (!check.ok()) return;
  check.Shaped("w", w, {x.dim(2), w.dim(1)});
  if (history.present()) check.Shaped("history", history, {x.dim(0), w.dim(1) - 1, x.dim(2)});
}

}  // namespace

absl::Status ShortConvForward(Stream& stream, const Tensor& x, const Tensor& w,
                              const Tensor& history, Tensor& y) {
  OperandCheck check("ShortConvForward", stream);
  CheckOperands(check, x, w, history);
  if (check.ok()) check.Shaped("y", y, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::short_conv_forward.Call(stream, x, w, history, y);
}

absl::Status ShortConvBackward(Stream& stream, const Tensor& x, const Tensor& w,
                               const Tensor& history, const Tensor& dy, Tensor& dx,
                               Tensor& d_history, Tensor& dw) {
  OperandCheck check("ShortConvBackward", stream);
  CheckOperands(check, x, w, history);
  if (check.ok()) {
    check.Shaped("dy", dy, x.shape()).Shaped("dx", dx, x.shape()).SumShaped("dw", dw, w.shape());
    if (d_history.present()) {
      check.Shaped("d_history", d_history, {x.dim(0), w.dim(1) - 1, x.dim(2)});
    }
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::short_conv_backward.Call(stream, x, w, history, dy, dx, d_history, dw);
}

}  // namespace weft::kernels
