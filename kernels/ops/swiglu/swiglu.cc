#include "kernels/ops/swiglu/swiglu.h"

#include "common/base/status_macros.h"
#include "kernels/ops/operand_check.h"
#include "kernels/ops/swiglu/swiglu_table.h"

namespace weft::kernels {

absl::Status SwigluForward(Stream& stream, const Tensor& gate, const Tensor& up, Tensor& y) {
  OperandCheck check("SwigluForward", stream);
  check.Compute("gate", gate);
  if (check.ok()) check.Shaped("up", up, gate.shape()).Shaped("y", y, gate.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::swiglu_forward.Call(stream, gate, up, y);
}

absl::Status SwigluBackward(Stream& stream, const Tensor& gate, const Tensor& up, const Tensor& dy,
                            Tensor& dgate, Tensor& dup) {
  OperandCheck check("SwigluBackward", stream);
  check.Compute("gate", gate);
  if (check.ok()) {
    check.Shaped("up", up, gate.shape()).Shaped("dy", dy, gate.shape());
    check.Shaped("dgate", dgate, gate.shape()).Shaped("dup", dup, gate.shape());
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::swiglu_backward.Call(stream, gate, up, dy, dgate, dup);
}

}  // namespace weft::kernels
