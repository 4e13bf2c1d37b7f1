// The implementations behind random_sketch.h and learned_sketch.h, for each kind of device.
// Operands are checked before they come here. Private to kernels/attention.
#pragma once

#include "kernels/attention/polysketch/learned_sketch.h"
#include "kernels/attention/polysketch/random_sketch.h"

namespace weft::kernels {

using RandomSketchForwardKernel = decltype(RandomSketchForward);
using RandomSketchBackwardKernel = decltype(RandomSketchBackward);
using LearnedSketchForwardKernel = decltype(LearnedSketchForward);
using LearnedSketchBackwardKernel = decltype(LearnedSketchBackward);
// How many bytes of LearnedSketchSaved::record so many rows take on a GPU; 0: none is kept.
using LearnedSketchRecordBytes = int64_t(const Device&, const LearnedSketchProblem&, int64_t rows);

RandomSketchForwardKernel RandomSketchForwardReference;
RandomSketchBackwardKernel RandomSketchBackwardReference;
RandomSketchForwardKernel RandomSketchForwardCpu;
RandomSketchBackwardKernel RandomSketchBackwardCpu;
LearnedSketchForwardKernel LearnedSketchForwardReference;
LearnedSketchBackwardKernel LearnedSketchBackwardReference;
LearnedSketchForwardKernel LearnedSketchForwardCpu;
LearnedSketchBackwardKernel LearnedSketchBackwardCpu;
RandomSketchForwardKernel RandomSketchForwardCuda;
RandomSketchBackwardKernel RandomSketchBackwardCuda;
LearnedSketchForwardKernel LearnedSketchForwardCuda;
LearnedSketchBackwardKernel LearnedSketchBackwardCuda;
LearnedSketchRecordBytes LearnedSketchCudaRecordBytes;

void RegisterRandomSketch(DeviceKind kind, RandomSketchForwardKernel* forward,
                          RandomSketchBackwardKernel* backward);
void RegisterLearnedSketch(DeviceKind kind, LearnedSketchForwardKernel* forward,
                           LearnedSketchBackwardKernel* backward);
void SetLearnedSketchCudaRecord(LearnedSketchRecordBytes* bytes);

// The factor of every product of a random sketch.
double SketchFactor(const RandomSketchProblem& problem);

}  // namespace weft::kernels
