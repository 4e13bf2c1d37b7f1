// Who implements bias where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/bias/bias.h"

namespace weft::kernels::internal {

inline OpTable<decltype(BiasForward)> bias_forward{"BiasForward"};
inline OpTable<decltype(BiasBackward)> bias_backward{"BiasBackward"};

void RegisterCpuBias();
void RegisterReferenceBias();
void RegisterCudaBias();

}  // namespace weft::kernels::internal
