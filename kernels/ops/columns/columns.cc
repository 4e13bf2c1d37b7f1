#include "kernels/ops/columns/columns.h"

#include "common/base/status_macros.h"
#include "kernels/ops/columns/columns_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

absl::Status Check(OperandCheck& check, const Tensor& from, const Tensor& to, const Tensor& narrow,
                   const Tensor& wide, int64_t at) {
  check.Present("from", from).Present("to", to);
  if (check.ok()) {
    check.Require(from.shape().rank() >= 1 && to.shape().rank() >= 1 &&
                      from.dtype() == to.dtype() && RowsOf(from) == RowsOf(to) && at >= 0 &&
                      at + narrow.dim(-1) <= wide.dim(-1),
                  absl::StrCat("from ", from.ToString(), " to ", to.ToString(), " at column ", at,
                               ": types and rows must be equal and the columns exist"));
  }
  return check.status();
}

}  // namespace

absl::Status PutColumns(Stream& stream, const Tensor& from, int64_t at, Tensor& to) {
  OperandCheck check("PutColumns", stream);
  WEFT_RETURN_IF_ERROR(Check(check, from, to, from, to, at));
  return internal::put_columns.Call(stream, from, at, to);
}

absl::Status TakeColumns(Stream& stream, const Tensor& from, int64_t at, Tensor& to) {
  OperandCheck check("TakeColumns", stream);
  WEFT_RETURN_IF_ERROR(Check(check, from, to, to, from, at));
  return internal::take_columns.Call(stream, from, at, to);
}

}  // namespace weft::kernels
