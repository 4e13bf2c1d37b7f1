// Who implements sum where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/sum/sum.h"

namespace weft::kernels::internal {

inline OpTable<decltype(Sum)> sum{"Sum"};

void RegisterCpuSum();
void RegisterReferenceSum();
void RegisterCudaSum();

}  // namespace weft::kernels::internal
