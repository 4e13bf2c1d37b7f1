// Who implements layer_norm where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/layer_norm/layer_norm.h"

namespace weft::kernels::internal {

inline OpTable<decltype(LayerNormForward)> layer_norm_forward{"LayerNormForward"};
inline OpTable<decltype(LayerNormBackward)> layer_norm_backward{"LayerNormBackward"};

void RegisterCpuLayerNorm();
void RegisterReferenceLayerNorm();
void RegisterCudaLayerNorm();

}  // namespace weft::kernels::internal
