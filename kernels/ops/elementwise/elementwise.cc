#include "kernels/ops/elementwise/elementwise.h"

#include "common/base/status_macros.h"
#include "kernels/ops/elementwise/elementwise_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

bool HasRole(const Stream& stream, const Tensor& tensor) {
  const Device& device = stream.device();
  return tensor.dtype() == device.compute_dtype() || tensor.dtype() == device.sum_dtype();
}

// Of the compute type or the sum type.
void CheckRole(OperandCheck& check, const Stream& stream, absl::string_view name,
               const Tensor& tensor) {
  check.Present(name, tensor);
  if (!check.ok()) return;
  check.Require(HasRole(stream, tensor),
                absl::StrCat(name, " is ", tensor.ToString(), ", expected ",
                             NameOf(stream.device().compute_dtype()), " or ",
                             NameOf(stream.device().sum_dtype())));
}

}  // namespace

absl::Status Fill(Stream& stream, Tensor& x, double value) {
  OperandCheck check("Fill", stream);
  if (x.present() && x.dtype() == DType::kI32) {
    check.Typed("x", x, DType::kI32, x.shape());
  } else {
    CheckRole(check, stream, "x", x);
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

absl::Status Convert(Stream& stream, const Tensor& from, Tensor& to) {
  OperandCheck check("Convert", stream);
  CheckRole(check, stream, "from", from);
  CheckRole(check, stream, "to", to);
  if (check.ok()) {
    check.Require(from.count() == to.count(),
                  absl::StrCat(from.ToString(), " does not fit ", to.ToString()));
  }
  WEFT_RETURN_IF_ERROR(check.status());
  if (from.dtype() == to.dtype()) return internal::copy.Call(stream, from, to);
  return internal::convert.Call(stream, from, to);
}

absl::Status Add(Stream& stream, const Tensor& a, const Tensor& b, Tensor& out) {
  OperandCheck check("Add", stream);
  CheckRole(check, stream, "a", a);
  if (check.ok()) {
    check.Typed("b", b, a.dtype(), a.shape()).Typed("out", out, a.dtype(), a.shape());
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::add.Call(stream, a, b, out);
}

}  // namespace weft::kernels
