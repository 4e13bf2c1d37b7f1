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

void RegisterRandomSketch(DeviceKind kind, RandomSketchForwardKernel* forward,
                          RandomSketchBackwardKernel* backward);
void RegisterLearnedSketch(DeviceKind kind, LearnedSketchForwardKernel* forward,
                           LearnedSketchBackwardKernel* backward);

// The factor of every product of a random sketch.
double SketchFactor(const RandomSketchProblem& problem);

}  // namespace weft::kernels
