#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"

#include "common/base/status_macros.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

void CheckOperands(OperandCheck& check, const Tensor& h, const Tensor& w, const Tensor& targets,
                   const Tensor& losses) {
  check.Compute("h", h, 1).Compute("w", w, 2).Compute("losses", losses).Present("targets", targets);
  if (!check.ok()) return;
  check.Typed("targets", targets, DType::kI32, targets.shape());
  check.Shaped("w", w, {w.dim(0), h.dim(-1)});
  check.Require(w.dim(0) >= 1, "the vocabulary is empty");
  check.Counted("losses", losses, RowsOf(h));
  check.Require(targets.count() == RowsOf(h), absl::StrCat("targets is ", targets.ToString(),
                                                           ", expected ", RowsOf(h), " of them"));
}

}  // namespace

absl::Status LinearCrossEntropyForward(Stream& stream, const Tensor& h, const Tensor& w,
                                       const Tensor& targets, Tensor& losses) {
  OperandCheck check("LinearCrossEntropyForward", stream);
  CheckOperands(check, h, w, targets, losses);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_cross_entropy_forward.Call(stream, h, w, targets, losses);
}

absl::Status LinearCrossEntropyForwardBackward(Stream& stream, const Tensor& h, const Tensor& w,
                                               const Tensor& targets, double gradient_scale,
                                               Tensor& losses, Tensor& dh, Tensor& dw) {
  OperandCheck check("LinearCrossEntropyForwardBackward", stream);
  CheckOperands(check, h, w, targets, losses);
  if (check.ok()) check.Shaped("dh", dh, h.shape()).Shaped("dw", dw, w.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_cross_entropy_forward_backward.Call(stream, h, w, targets, gradient_scale,
                                                              losses, dh, dw);
}

}  // namespace weft::kernels
