// Who implements gradient_norm where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/gradient_norm/gradient_norm.h"

namespace weft::kernels::internal {

inline OpTable<decltype(SumOfSquares)> sum_of_squares{"SumOfSquares"};
inline OpTable<decltype(ClipFactor)> clip_factor{"ClipFactor"};

// The rule of ClipFactor on numbers.
double ClipFactorFor(double sum, double max_norm);

void RegisterCpuGradientNorm();
void RegisterReferenceGradientNorm();
void RegisterCudaGradientNorm();

}  // namespace weft::kernels::internal
