#include "kernels/ops/pair_features/pair_features.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/pair_features/pair_features_table.h"

namespace weft::kernels {
namespace {

void CheckPairs(OperandCheck& check, const Tensor& x) {
  check.Compute("x", x, 2);
  if (check.ok()) {
    check.Require(x.shape().rank() == 2 && x.dim(1) % 2 == 0,
                  absl::StrCat("x is ", x.ToString(), ", expected [R, 2 C]"));
  }
}

}  // namespace

absl::Status PairFeaturesForward(Stream& stream, const Tensor& x, Tensor& y) {
  OperandCheck check("PairFeaturesForward", stream);
  CheckPairs(check, x);
  if (check.ok()) check.Shaped("y", y, {x.dim(0), 2 * x.dim(1)});
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::pair_features_forward.Call(stream, x, y);
}

absl::Status PairFeaturesBackward(Stream& stream, const Tensor& x, const Tensor& dy, Tensor& dx) {
  OperandCheck check("PairFeaturesBackward", stream);
  CheckPairs(check, x);
  if (check.ok()) check.Shaped("dy", dy, {x.dim(0), 2 * x.dim(1)}).Shaped("dx", dx, x.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::pair_features_backward.Call(stream, x, dy, dx);
}

}  // namespace weft::kernels
