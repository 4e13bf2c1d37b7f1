// Who implements gelu where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/gelu/gelu.h"

namespace weft::kernels::internal {

inline OpTable<decltype(GeluForward)> gelu_forward{"GeluForward"};
inline OpTable<decltype(GeluBackward)> gelu_backward{"GeluBackward"};

void RegisterCpuGelu();
void RegisterReferenceGelu();
void RegisterCudaGelu();

}  // namespace weft::kernels::internal
