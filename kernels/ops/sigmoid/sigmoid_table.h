// Who implements sigmoid where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/sigmoid/sigmoid.h"

namespace weft::kernels::internal {

inline OpTable<decltype(SigmoidForward)> sigmoid_forward{"SigmoidForward"};
inline OpTable<decltype(SigmoidBackward)> sigmoid_backward{"SigmoidBackward"};

void RegisterCpuSigmoid();
void RegisterReferenceSigmoid();
void RegisterCudaSigmoid();

}  // namespace weft::kernels::internal
