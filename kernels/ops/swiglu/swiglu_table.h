// Who implements swiglu where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/swiglu/swiglu.h"

namespace weft::kernels::internal {

inline OpTable<decltype(SwigluForward)> swiglu_forward{"SwigluForward"};
inline OpTable<decltype(SwigluBackward)> swiglu_backward{"SwigluBackward"};

void RegisterCpuSwiglu();
void RegisterReferenceSwiglu();
void RegisterCudaSwiglu();

}  // namespace weft::kernels::internal
