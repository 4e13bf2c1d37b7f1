#include "kernels/ops/sum/sum.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/sum/sum_table.h"

namespace weft::kernels {

absl::Status Sum(Stream& stream, const Tensor& x, Tensor& out) {
  OperandCheck check("Sum", stream);
  check.SumShaped("x", x, x.shape()).Typed("out", out, DType::kF64, {1});
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::sum.Call(stream, x, out);
}

}  // namespace weft::kernels
