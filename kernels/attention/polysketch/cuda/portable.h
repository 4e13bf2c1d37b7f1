// Polynomial attention and learned sketches on any GPU that the device takes, in bf16 or fp32:
// matrix products of the library and small kernels between them. The fast paths of Hopper cover
// less (polysketch_sm90.h, learned_sketch_sm90.h).
#pragma once

#include "kernels/attention/polysketch/polysketch_kernels.h"
#include "kernels/attention/polysketch/sketch_kernels.h"

namespace weft::kernels::portable {

PolysketchForwardKernel Forward;
PolysketchBackwardKernel Backward;
PolysketchUndoKernel Undo;

LearnedSketchForwardKernel LearnedForward;
LearnedSketchBackwardKernel LearnedBackward;

}  // namespace weft::kernels::portable
