// Who implements dropout where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/dropout/dropout.h"

namespace weft::kernels::internal {

inline OpTable<decltype(Dropout)> dropout{"Dropout"};

void RegisterCpuDropout();
void RegisterReferenceDropout();
void RegisterCudaDropout();

}  // namespace weft::kernels::internal
