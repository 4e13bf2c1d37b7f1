// Who implements rotary where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/rotary/rotary.h"

namespace weft::kernels::internal {

inline OpTable<decltype(RotaryForward)> rotary_forward{"RotaryForward"};
inline OpTable<decltype(RotaryBackward)> rotary_backward{"RotaryBackward"};

void RegisterCpuRotary();
void RegisterReferenceRotary();
void RegisterCudaRotary();

}  // namespace weft::kernels::internal
