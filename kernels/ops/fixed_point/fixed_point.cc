#include "kernels/ops/fixed_point/fixed_point.h"

#include "common/base/status_macros.h"
#include "kernels/ops/fixed_point/fixed_point_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

void CheckOperands(OperandCheck& check, const Tensor& x, const Tensor& exponents) {
  check.SumShaped("x", x, x.shape());
  if (check.ok()) {
    check.Typed("exponents", exponents, DType::kI32, {FixedPointBlocks(x.count())});
  }
}

void CheckSum(OperandCheck& check, const Tensor& x, const Tensor& sum, int bits) {
  if (check.ok()) check.Typed("sum", sum, DType::kI32, x.shape());
  check.Require(bits >= 7 && bits <= 31, absl::StrCat("bits is ", bits, ", outside [7, 31]"));
}

}  // namespace

absl::Status BlockExponents(Stream& stream, const Tensor& x, Accumulate accumulate,
                            Tensor& exponents) {
  OperandCheck check("BlockExponents", stream);
  CheckOperands(check, x, exponents);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::block_exponents.Call(stream, x, accumulate, exponents);
}

absl::Status Quantize(Stream& stream, const Tensor& x, const Tensor& exponents, int bits,
                      Accumulate accumulate, Tensor& sum) {
  OperandCheck check("Quantize", stream);
  CheckOperands(check, x, exponents);
  CheckSum(check, x, sum, bits);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::quantize.Call(stream, x, exponents, bits, accumulate, sum);
}

absl::Status Dequantize(Stream& stream, const Tensor& sum, const Tensor& exponents, int bits,
                        Tensor& x) {
  OperandCheck check("Dequantize", stream);
  CheckOperands(check, x, exponents);
  CheckSum(check, x, sum, bits);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::dequantize.Call(stream, sum, exponents, bits, x);
}

}  // namespace weft::kernels
