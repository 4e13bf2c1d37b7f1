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
// In a build with CUDA.
DeltaForwardKernel DeltaForwardCuda;
DeltaBackwardKernel DeltaBackwardCuda;
int64_t DeltaCudaRecordBytes(const Device& device, const DeltaProblem& problem);

// How many bytes of DeltaSaved::record a problem takes on a GPU; 0: none is kept.
void SetDeltaCudaRecord(int64_t (*bytes)(const Device&, const DeltaProblem&));
void RegisterDelta(DeviceKind kind, DeltaForwardKernel* forward, DeltaBackwardKernel* backward);

}  // namespace weft::kernels
