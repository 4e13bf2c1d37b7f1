#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"

#include "common/base/status_macros.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

void CheckOperands(OperandCheck& check, const Tensor& h, const Tensor& w, const Tensor& bias,
                   const Tensor& targets, const Tensor& losses, const Tensor& right) {
  check.Compute("h", h, 1).Compute("w", w, 2).Present("targets", targets);
  if (!check.ok()) return;
  check.Typed("targets", targets, DType::kI32, targets.shape());
  check.Shaped("w", w, {w.dim(0), h.dim(-1)});
  check.Require(w.dim(0) >= 1, "there are no classes");
  if (bias.present()) check.Shaped("bias", bias, {w.dim(0)});
  check.SumCounted("losses", losses, RowsOf(h)).SumCounted("right", right, RowsOf(h));
  check.Require(targets.count() == RowsOf(h), absl::StrCat("targets is ", targets.ToString(),
                                                           ", expected ", RowsOf(h), " of them"));
}

}  // namespace

absl::Status LinearCrossEntropyForward(Stream& stream, const Tensor& h, const Tensor& w,
                                       const Tensor& bias, const Tensor& targets, Tensor& losses,
                                       Tensor& right) {
  OperandCheck check("LinearCrossEntropyForward", stream);
  CheckOperands(check, h, w, bias, targets, losses, right);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_cross_entropy_forward.Call(stream, h, w, bias, targets, losses, right);
}

absl::Status LinearCrossEntropyForwardBackward(Stream& stream, const Tensor& h, const Tensor& w,
                                               const Tensor& bias, const Tensor& targets,
                                               double gradient_scale, Tensor& losses, Tensor& right,
                                               Tensor& dh, Tensor& dw, Tensor& dbias) {
  OperandCheck check("LinearCrossEntropyForwardBackward", stream);
  CheckOperands(check, h, w, bias, targets, losses, right);
  if (check.ok()) {
    check.Shaped("dh", dh, h.shape()).SumShaped("dw", dw, w.shape());
    check.Require(bias.present() == dbias.present(), "bias and dbias must come together");
    if (bias.present()) check.SumShaped("dbias", dbias, bias.shape());
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_cross_entropy_forward_backward.Call(
      stream, h, w, bias, targets, gradient_scale, losses, right, dh, dw, dbias);
}

}  // namespace weft::kernels
