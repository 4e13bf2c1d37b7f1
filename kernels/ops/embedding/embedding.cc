#include "kernels/ops/embedding/embedding.h"

#include "common/base/status_macros.h"
#include "kernels/ops/embedding/embedding_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {
namespace {

void CheckOperands(OperandCheck& check, const Tensor& tokens, const char* table_name,
                   const Tensor& table, DType table_type, const char* rows_name,
                   const Tensor& rows) {
  check.Present(table_name, table).Compute(rows_name, rows, 1).Present("tokens", tokens);
  if (!check.ok()) return;
  check.Typed("tokens", tokens, DType::kI32, tokens.shape());
  check.Typed(table_name, table, table_type, table.shape());
  check.Require(table.shape().rank() == 2,
                absl::StrCat(table_name, " is ", table.ToString(), ", expected [V,C]"));
  check.Require(rows.dim(-1) == table.dim(-1) && RowsOf(rows) == tokens.count(),
                absl::StrCat(rows_name, " is ", rows.ToString(), ", expected ", tokens.count(),
                             " rows of ", table.dim(-1)));
}

}  // namespace

absl::Status EmbeddingForward(Stream& stream, const Tensor& tokens, const Tensor& table,
                              Tensor& y) {
  OperandCheck check("EmbeddingForward", stream);
  CheckOperands(check, tokens, "table", table, stream.device().compute_dtype(), "y", y);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::embedding_forward.Call(stream, tokens, table, y);
}

absl::Status EmbeddingBackward(Stream& stream, const Tensor& tokens, const Tensor& dy,
                               Tensor& dtable) {
  OperandCheck check("EmbeddingBackward", stream);
  CheckOperands(check, tokens, "dtable", dtable, stream.device().sum_dtype(), "dy", dy);
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::embedding_backward.Call(stream, tokens, dy, dtable);
}

}  // namespace weft::kernels
