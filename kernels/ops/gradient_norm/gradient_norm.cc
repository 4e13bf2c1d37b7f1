#include "kernels/ops/gradient_norm/gradient_norm.h"

#include <cmath>

#include "common/base/status_macros.h"
#include "kernels/ops/gradient_norm/gradient_norm_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

double internal::ClipFactorFor(double sum, double max_norm) {
  if (max_norm <= 0) return 1;
  const double norm = std::sqrt(sum);
  return norm <= max_norm ? 1 : max_norm / norm;  // a NaN norm fails the comparison and comes out
}

absl::Status SumOfSquares(Stream& stream, const Tensor& x, Tensor& out) {
  OperandCheck check("SumOfSquares", stream);
  check.SumShaped("x", x, x.shape()).Typed("out", out, DType::kF64, {1});
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::sum_of_squares.Call(stream, x, out);
}

absl::Status ClipFactor(Stream& stream, const Tensor& sum_of_squares, double max_norm,
                        Tensor& clip) {
  OperandCheck check("ClipFactor", stream);
  check.Typed("sum_of_squares", sum_of_squares, DType::kF64, {1}).SumShaped("clip", clip, {1});
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::clip_factor.Call(stream, sum_of_squares, max_norm, clip);
}

}  // namespace weft::kernels
