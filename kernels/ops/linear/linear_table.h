// Who implements linear where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/linear/linear.h"

namespace weft::kernels::internal {

inline OpTable<decltype(LinearForward)> linear_forward{"LinearForward"};
inline OpTable<decltype(LinearBackwardInput)> linear_backward_input{"LinearBackwardInput"};
inline OpTable<decltype(LinearBackwardWeight)> linear_backward_weight{"LinearBackwardWeight"};

void RegisterCpuLinear();
void RegisterReferenceLinear();
void RegisterCudaLinear();

}  // namespace weft::kernels::internal
