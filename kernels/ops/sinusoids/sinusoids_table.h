// Who implements sinusoids where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/sinusoids/sinusoids.h"

namespace weft::kernels::internal {

inline OpTable<decltype(Sinusoids)> sinusoids{"Sinusoids"};

void RegisterCpuSinusoids();
void RegisterReferenceSinusoids();
void RegisterCudaSinusoids();

}  // namespace weft::kernels::internal
