// Who implements elementwise where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/elementwise/elementwise.h"

namespace weft::kernels::internal {

inline OpTable<decltype(Fill)> fill{"Fill"};
inline OpTable<decltype(Copy)> copy{"Copy"};
inline OpTable<decltype(Convert)> convert{"Convert"};
inline OpTable<decltype(Add)> add{"Add"};

void RegisterCpuElementwise();
void RegisterReferenceElementwise();
void RegisterCudaElementwise();

}  // namespace weft::kernels::internal
