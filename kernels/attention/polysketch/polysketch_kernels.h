// The implementations behind polysketch.h, three for each kind of device. Operands are checked
// before they come here. Private to kernels/attention.
#pragma once

#include "kernels/attention/polysketch/polysketch.h"

namespace weft::kernels {

using PolysketchForwardKernel = decltype(PolysketchForward);
using PolysketchBackwardKernel = decltype(PolysketchBackward);
using PolysketchUndoKernel = decltype(PolysketchUndo);

PolysketchForwardKernel PolysketchForwardReference;
PolysketchBackwardKernel PolysketchBackwardReference;
PolysketchUndoKernel PolysketchUndoReference;
PolysketchForwardKernel PolysketchForwardCpu;
PolysketchBackwardKernel PolysketchBackwardCpu;
PolysketchUndoKernel PolysketchUndoCpu;
PolysketchForwardKernel PolysketchForwardCuda;
PolysketchBackwardKernel PolysketchBackwardCuda;
PolysketchUndoKernel PolysketchUndoCuda;
int64_t PolysketchCudaRecordBytes(const Device& device, const PolysketchProblem& problem);

// How many bytes of PolysketchSaved::record a problem takes on a GPU; 0: none is kept.
void SetPolysketchCudaRecord(int64_t (*bytes)(const Device&, const PolysketchProblem&));

void RegisterPolysketch(DeviceKind kind, PolysketchForwardKernel* forward,
                        PolysketchBackwardKernel* backward, PolysketchUndoKernel* undo);

}  // namespace weft::kernels
