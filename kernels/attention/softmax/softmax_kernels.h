// The implementations behind softmax.h, one pair for each kind of device. Operands are checked
// before they come here. Private to kernels/attention.
#pragma once

#include "kernels/attention/softmax/softmax.h"

namespace weft::kernels {

using SoftmaxForwardKernel = decltype(SoftmaxForward);
using SoftmaxBackwardKernel = decltype(SoftmaxBackward);

SoftmaxForwardKernel SoftmaxForwardReference;
SoftmaxBackwardKernel SoftmaxBackwardReference;
SoftmaxForwardKernel SoftmaxForwardCpu;
SoftmaxBackwardKernel SoftmaxBackwardCpu;

void RegisterSoftmax(DeviceKind kind, SoftmaxForwardKernel* forward,
                     SoftmaxBackwardKernel* backward);

}  // namespace weft::kernels
