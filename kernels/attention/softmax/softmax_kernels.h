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

// What a kind of device does not cover: kUnimplemented, with the reason.
using SoftmaxLimits = absl::Status(const Device& device, const SoftmaxProblem& problem);

SoftmaxForwardKernel SoftmaxForwardCuda;
SoftmaxBackwardKernel SoftmaxBackwardCuda;
SoftmaxLimits SoftmaxLimitsCuda;
SoftmaxLimits NoSoftmaxLimits;

void RegisterSoftmax(DeviceKind kind, SoftmaxForwardKernel* forward,
                     SoftmaxBackwardKernel* backward, SoftmaxLimits* limits = NoSoftmaxLimits);

}  // namespace weft::kernels
