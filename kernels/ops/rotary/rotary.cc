#include "kernels/ops/rotary/rotary.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/rotary/rotary_table.h"

namespace weft::kernels {
namespace {

void CheckOperands(OperandCheck& check, const char* name, const Tensor& x, double base,
                   int64_t first_position) {
  check.Compute(name, x, 4);
  if (!check.ok()) return;
  check.Require(x.shape().rank() == 4 && x.dim(3) % 2 == 0,
                absl::StrCat(name, " is ", x.ToString(), ", expected [B,T,H,D] with D even"));
  check.Require(base > 0, absl::StrCat("base is ", base));
  check.Require(first_position >= 0, absl::StrCat("first_position is ", first_position));
}

}  // namespace

absl::Status RotaryForward(Stream& stream, const Tensor& x, double base, int64_t first_position,
                           Tensor& y) {
  OperandCheck check("RotaryForward", stream);
  CheckOperands(check, "x", x, base, first_position);
  if (check.ok()) check.Shaped("y", y, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::rotary_forward.Call(stream, x, base, first_position, y);
}

absl::Status RotaryBackward(Stream& stream, const Tensor& dy, double base, int64_t first_position,
                            Tensor& dx) {
  OperandCheck check("RotaryBackward", stream);
  CheckOperands(check, "dy", dy, base, first_position);
  if (check.ok()) check.Shaped("dx", dx, dy.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::rotary_backward.Call(stream, dy, base, first_position, dx);
}

}  // namespace weft::kernels
