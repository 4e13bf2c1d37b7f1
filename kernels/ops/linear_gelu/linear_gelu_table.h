// Who implements linear_gelu where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/linear_gelu/linear_gelu.h"

namespace weft::kernels::internal {

inline OpTable<decltype(LinearGeluForward)> linear_gelu_forward{"LinearGeluForward"};
inline OpTable<decltype(LinearBackwardGelu)> linear_backward_gelu{"LinearBackwardGelu"};

// One op after the other, on any device that has both.
decltype(LinearGeluForward) ComposedLinearGeluForward;
decltype(LinearBackwardGelu) ComposedLinearBackwardGelu;

void RegisterCpuLinearGelu();
void RegisterReferenceLinearGelu();
void RegisterCudaLinearGelu();

}  // namespace weft::kernels::internal
