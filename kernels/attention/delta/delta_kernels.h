// The implementations behind delta.h, one pair for each kind of device. Operands are checked
// before they come here. Private to kernels/attention.
#pragma once

#include "kernels/attention/delta/delta.h"

namespace weft::kernels {

using DeltaForwardKernel = decltype(DeltaForward);
using DeltaBackwardKernel = decltype(DeltaBackward);

DeltaForwardKernel DeltaForwardReference;
DeltaBackwardKernel DeltaBackwardReference;
DeltaForwardKernel DeltaForwardCpu;
DeltaBackwardKernel DeltaBackwardCpu;

void RegisterDelta(DeviceKind kind, DeltaForwardKernel* forward, DeltaBackwardKernel* backward);

}  // namespace weft::kernels
