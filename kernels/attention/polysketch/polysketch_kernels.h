// The implementations behind polysketch.h, one pair for each kind of device. Operands are checked
// before they come here. Private to kernels/attention.
#pragma once

#include "kernels/attention/polysketch/polysketch.h"

namespace weft::kernels {

using PolysketchForwardKernel = decltype(PolysketchForward);
using PolysketchBackwardKernel = decltype(PolysketchBackward);

PolysketchForwardKernel PolysketchForwardReference;
PolysketchBackwardKernel PolysketchBackwardReference;
PolysketchForwardKernel PolysketchForwardCpu;
PolysketchBackwardKernel PolysketchBackwardCpu;

void RegisterPolysketch(DeviceKind kind, PolysketchForwardKernel* forward,
                        PolysketchBackwardKernel* backward);

}  // namespace weft::kernels
