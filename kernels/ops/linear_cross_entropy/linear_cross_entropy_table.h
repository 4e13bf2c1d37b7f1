// Who implements linear_cross_entropy where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/linear_cross_entropy/linear_cross_entropy.h"

namespace weft::kernels::internal {

inline OpTable<decltype(LinearCrossEntropyForward)> linear_cross_entropy_forward{
    "LinearCrossEntropyForward"};
inline OpTable<decltype(LinearCrossEntropyForwardBackward)> linear_cross_entropy_forward_backward{
    "LinearCrossEntropyForwardBackward"};

void RegisterCpuLinearCrossEntropy();
void RegisterReferenceLinearCrossEntropy();
void RegisterCudaLinearCrossEntropy();

}  // namespace weft::kernels::internal
