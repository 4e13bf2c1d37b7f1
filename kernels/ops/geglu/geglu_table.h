// Who implements geglu where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/geglu/geglu.h"

namespace weft::kernels::internal {

inline OpTable<decltype(GegluForward)> geglu_forward{"GegluForward"};
inline OpTable<decltype(GegluBackward)> geglu_backward{"GegluBackward"};

void RegisterCpuGeglu();
void RegisterReferenceGeglu();
void RegisterCudaGeglu();

}  // namespace weft::kernels::internal
