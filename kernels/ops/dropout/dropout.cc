#include "kernels/ops/dropout/dropout.h"

#include "common/base/status_macros.h"
#include "kernels/ops/dropout/dropout_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status Dropout(Stream& stream, const DropoutOptions& options, const Tensor& x, Tensor& y) {
  const auto below = [](int64_t value, int bits) {
    return value >= 0 && value < int64_t{1} << bits;
  };
  OperandCheck check("Dropout", stream);
  check.Compute("x", x, 3);
  if (check.ok()) {
    check.Shaped("y", y, x.shape());
    check.Require(x.shape().rank() == 3 && x.dim(2) <= int64_t{1} << 22,
                  absl::StrCat("x is ", x.ToString(), ", expected [B, T, C] with C up to 2^22"));
    check.Require(options.probability >= 0 && options.probability < 1,
                  absl::StrCat("the probability is ", options.probability, ", not in [0, 1)"));
    check.Require(below(options.step, 28) && below(options.layer, 12) && below(options.site, 12) &&
                      below(options.first_sequence, 20) && below(options.first_position, 32) &&
                      options.first_sequence + x.dim(0) <= int64_t{1} << 20,
                  absl::StrCat("draws at step ", options.step, ", layer ", options.layer, ", site ",
                               options.site, ", sequence ", options.first_sequence, " to ",
                               options.first_sequence + x.dim(0),
                               " do not fit below 2^28, 2^12, 2^12 and 2^20"));
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::dropout.Call(stream, options, x, y);
}

}  // namespace weft::kernels
