#include "kernels/ops/mean_pool/mean_pool.h"

#include "common/base/status_macros.h"
#include "kernels/ops/mean_pool/mean_pool_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

absl::Status Check(OperandCheck& check, const char* tokens_name, const Tensor& tokens,
                   const char* pooled_name, const Tensor& pooled, const Tensor& valid) {
  check.Compute(tokens_name, tokens, 3);
  if (check.ok()) {
    check.Require(tokens.shape().rank() == 3 && tokens.dim(1) > 0,
                  absl::StrCat(tokens_name, " is ", tokens.ToString(), ", expected [B, T, C]"));
  }
  if (check.ok()) {
    check.Shaped(pooled_name, pooled, {tokens.dim(0), tokens.dim(2)});
    if (valid.present()) check.Typed("valid", valid, DType::kI32, {tokens.dim(0), tokens.dim(1)});
  }
  return check.status();
}

}  // namespace

absl::Status MeanPoolForward(Stream& stream, const Tensor& x, const Tensor& valid, Tensor& y) {
  OperandCheck check("MeanPoolForward", stream);
  WEFT_RETURN_IF_ERROR(Check(check, "x", x, "y", y, valid));
  return internal::mean_pool_forward.Call(stream, x, valid, y);
}

absl::Status MeanPoolBackward(Stream& stream, const Tensor& dy, const Tensor& valid, Tensor& dx) {
  OperandCheck check("MeanPoolBackward", stream);
  WEFT_RETURN_IF_ERROR(Check(check, "dx", dx, "dy", dy, valid));
  return internal::mean_pool_backward.Call(stream, dy, valid, dx);
}

}  // namespace weft::kernels
