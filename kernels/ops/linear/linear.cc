#include "kernels/ops/linear/linear.h"

#include "common/base/status_macros.h"
#include "kernels/ops/linear/linear_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

// "dims of x but the last" = "dims of y but the last": both have the same rows. The weight's type
// is the compute type, its gradient's the sum type.
OperandCheck CheckLinear(const char* op, const Stream& stream, const char* x_name, const Tensor& x,
                         const char* w_name, const Tensor& w, DType w_type, const char* y_name,
                         const Tensor& y) {
  OperandCheck check(op, stream);
  check.Compute(x_name, x, 1).Compute(y_name, y, 1);
  if (!check.ok()) return check;
  check.Typed(w_name, w, w_type, {y.dim(-1), x.dim(-1)});
  check.Require(RowsOf(x) == RowsOf(y), absl::StrCat(x_name, " is ", x.ToString(), " but ", y_name,
                                                     " is ", y.ToString(), ": rows differ"));
  return check;
}

}  // namespace

absl::Status LinearForward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                           const Tensor& residual, Tensor& y) {
  const DType type = stream.device().compute_dtype();
  OperandCheck check = CheckLinear("LinearForward", stream, "x", x, "w", w, type, "y", y);
  if (check.ok() && bias.present()) check.Shaped("bias", bias, {w.dim(0)});
  if (check.ok() && residual.present()) check.Shaped("residual", residual, y.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::linear_forward.Call(stream, x, w, bias, residual, y);
}

absl::Status LinearBackwardInput(Stream& stream, const Tensor& dy, const Tensor& w, Tensor& dx,
                                 Accumulate accumulate) {
  const DType type = stream.device().compute_dtype();
  WEFT_RETURN_IF_ERROR(
      CheckLinear("LinearBackwardInput", stream, "dx", dx, "w", w, type, "dy", dy).status());
  return internal::linear_backward_input.Call(stream, dy, w, dx, accumulate);
}

absl::Status LinearBackwardWeight(Stream& stream, const Tensor& dy, const Tensor& x, Tensor& dw) {
  const DType type = stream.device().sum_dtype();
  WEFT_RETURN_IF_ERROR(
      CheckLinear("LinearBackwardWeight", stream, "x", x, "dw", dw, type, "dy", dy).status());
  return internal::linear_backward_weight.Call(stream, dy, x, dw);
}

}  // namespace weft::kernels
