// Who implements rms_norm where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/rms_norm/rms_norm.h"

namespace weft::kernels::internal {

inline OpTable<decltype(RmsNormForward)> rms_norm_forward{"RmsNormForward"};
inline OpTable<decltype(RmsNormBackward)> rms_norm_backward{"RmsNormBackward"};

void RegisterCpuRmsNorm();
void RegisterReferenceRmsNorm();
void RegisterCudaRmsNorm();

}  // namespace weft::kernels::internal
