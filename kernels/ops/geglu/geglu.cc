#include "kernels/ops/geglu/geglu.h"

#include "common/base/status_macros.h"
#include "kernels/ops/geglu/geglu_table.h"
#include "kernels/ops/operand_check.h"

namespace weft::kernels {

absl::Status GegluForward(Stream& stream, GeluForm form, const Tensor& gate, const Tensor& up,
                          Tensor& y) {
  OperandCheck check("GegluForward", stream);
  check.Compute("gate", gate);
  if (check.ok()) check.Shaped("up", up, gate.shape()).Shaped("y", y, gate.shape());
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::geglu_forward.Call(stream, form, gate, up, y);
}

absl::Status GegluBackward(Stream& stream, GeluForm form, const Tensor& gate, const Tensor& up,
                           const Tensor& dy, Tensor& dgate, Tensor& dup) {
  OperandCheck check("GegluBackward", stream);
  check.Compute("gate", gate);
  if (check.ok()) {
    check.Shaped("up", up, gate.shape()).Shaped("dy", dy, gate.shape());
    check.Shaped("dgate", dgate, gate.shape()).Shaped("dup", dup, gate.shape());
  }
  WEFT_RETURN_IF_ERROR(check.status());
  return internal::geglu_backward.Call(stream, form, gate, up, dy, dgate, dup);
}

}  // namespace weft::kernels
