// Who implements conv_norm where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/conv_norm/conv_norm.h"

namespace weft::kernels::internal {

inline OpTable<decltype(ConvNormForward)> conv_norm_forward{"ConvNormForward"};
inline OpTable<decltype(ConvNormBackward)> conv_norm_backward{"ConvNormBackward"};

// One op after the other, on any device that has both.
decltype(ConvNormForward) ComposedConvNormForward;
decltype(ConvNormBackward) ComposedConvNormBackward;

void RegisterCpuConvNorm();
void RegisterReferenceConvNorm();
void RegisterCudaConvNorm();

}  // namespace weft::kernels::internal
