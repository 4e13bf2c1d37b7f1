// Who implements adamw where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/adamw/adamw.h"

namespace weft::kernels::internal {

inline OpTable<decltype(AdamW)> adamw{"AdamW"};

void RegisterCpuAdamW();
void RegisterReferenceAdamW();
void RegisterCudaAdamW();

}  // namespace weft::kernels::internal
