// Who implements fixed_point where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/fixed_point/fixed_point.h"

namespace weft::kernels::internal {

inline OpTable<decltype(BlockExponents)> block_exponents{"BlockExponents"};
inline OpTable<decltype(Quantize)> quantize{"Quantize"};
inline OpTable<decltype(Dequantize)> dequantize{"Dequantize"};

void RegisterCpuFixedPoint();
void RegisterReferenceFixedPoint();
void RegisterCudaFixedPoint();

}  // namespace weft::kernels::internal
