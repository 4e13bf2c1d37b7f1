#include "kernels/ops/sinusoids/sinusoids.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/sinusoids/sinusoids_table.h"

namespace weft::kernels {

absl::Status Sinusoids(Stream& stream, const SinusoidOptions& options, Tensor& table) {
  OperandCheck check("Sinusoids", stream);
  check.Compute("table", table, 2);
  if (check.ok()) {
    check.Require(options.columns >= 0 && options.columns % 2 == 0 && options.first_column >= 0 &&
                      options.first_column + options.columns <= table.dim(-1),
                  absl::StrCat(options.columns, " columns from ", options.first_column, " of ",
                               table.ToString(), ": they must exist and be even in number"));
    check.Require(options.first_position >= 0, "positions begin at 0");
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::sinusoids.Call(stream, options, table);
}

}  // namespace weft::kernels
