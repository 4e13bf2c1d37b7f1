// Who implements silu where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/silu/silu.h"

namespace weft::kernels::internal {

inline OpTable<decltype(SiluForward)> silu_forward{"SiluForward"};
inline OpTable<decltype(SiluBackward)> silu_backward{"SiluBackward"};

void RegisterCpuSilu();
void RegisterReferenceSilu();
void RegisterCudaSilu();

}  // namespace weft::kernels::internal
