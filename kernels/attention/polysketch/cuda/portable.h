// Polynomial attention on any GPU that the device takes, in bf16 or fp32: matrix products of the
// library and small kernels between them. The fast path of Hopper covers less (polysketch_sm90.h).
#pragma once

#include "kernels/attention/polysketch/polysketch_kernels.h"

namespace weft::kernels::portable {

PolysketchForwardKernel Forward;
PolysketchBackwardKernel Backward;
PolysketchUndoKernel Undo;

}  // namespace weft::kernels::portable
