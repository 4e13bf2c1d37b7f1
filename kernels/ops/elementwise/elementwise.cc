#include "kernels/ops/elementwise/elementwise.h"

#include "common/base/status_macros.h"
#include "kernels/ops/elementwise/elementwise_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status Fill(Stream& stream, Tensor& x, double value) {
  OperandCheck check("Fill", stream);
  if (x.present() && x.dtype() == DType::kI32) {
    check.Typed("x", x, DType::kI32, x.shape());
  } else {
    check.Compute("x", x);
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::fill.Call(stream, x, value);
}

absl::Status Copy(Stream& stream, const Tensor& from, Tensor& to) {
  OperandCheck check("Copy", stream);
  check.Present("from", from).Present("to", to);
  if (check.ok()) {
    check.Require(from.dtype() == to.dtype() && from.count() == to.count(),
                  absl::StrCat(from.ToString(), " does not fit ", to.ToString()));
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::copy.Call(stream, from, to);
}

absl::Status Add(Stream& stream, const Tensor& a, const Tensor& b, Tensor& out) {
  OperandCheck check("Add", stream);
  check.Compute("a", a);
  if (check.ok()) check.Shaped("b", b, a.shape()).Shaped("out", out, a.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::add.Call(stream, a, b, out);
}

}  // namespace weft::kernels
