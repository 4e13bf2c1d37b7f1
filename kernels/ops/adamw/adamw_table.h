// Who implements adamw where. For op code only.
#pragma once

#include "kernels/device/cpu/vector/vector_table.h"
#include "kernels/device/op_table.h"
#include "kernels/ops/adamw/adamw.h"

namespace weft::kernels::internal {

inline OpTable<decltype(AdamW)> adamw{"AdamW"};

// What a step multiplies by, in fp32: the same bits on every device.
AdamWFactors FactorsOf(const AdamWOptions& options);

void RegisterCpuAdamW();
void RegisterReferenceAdamW();
void RegisterCudaAdamW();

}  // namespace weft::kernels::internal
