// Who implements relu where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/relu/relu.h"

namespace weft::kernels::internal {

inline OpTable<decltype(ReluForward)> relu_forward{"ReluForward"};
inline OpTable<decltype(ReluBackward)> relu_backward{"ReluBackward"};

void RegisterCpuRelu();
void RegisterReferenceRelu();
void RegisterCudaRelu();

}  // namespace weft::kernels::internal
