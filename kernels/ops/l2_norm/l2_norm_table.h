// Who implements l2_norm where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/l2_norm/l2_norm.h"

namespace weft::kernels::internal {

inline OpTable<decltype(L2NormForward)> l2_norm_forward{"L2NormForward"};
inline OpTable<decltype(L2NormBackward)> l2_norm_backward{"L2NormBackward"};

void RegisterCpuL2Norm();
void RegisterReferenceL2Norm();
void RegisterCudaL2Norm();

}  // namespace weft::kernels::internal
