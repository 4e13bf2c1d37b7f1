// The implementations behind linear_attention.h, for each kind of device. Operands are
// checked before they come here. Private to kernels/attention.
#pragma once

#include "kernels/attention/linear_attention/linear_attention.h"

namespace weft::kernels {

using LinearAttentionForwardKernel = decltype(LinearAttentionForward);
using LinearAttentionBackwardKernel = decltype(LinearAttentionBackward);
using LinearAttentionUndoKernel = decltype(LinearAttentionUndo);

LinearAttentionForwardKernel LinearAttentionForwardReference;
LinearAttentionBackwardKernel LinearAttentionBackwardReference;
LinearAttentionUndoKernel LinearAttentionUndoReference;
LinearAttentionForwardKernel LinearAttentionForwardCpu;
LinearAttentionBackwardKernel LinearAttentionBackwardCpu;
LinearAttentionUndoKernel LinearAttentionUndoCpu;

// In a build with CUDA.
LinearAttentionForwardKernel LinearAttentionForwardCuda;
LinearAttentionBackwardKernel LinearAttentionBackwardCuda;
LinearAttentionUndoKernel LinearAttentionUndoCuda;

// How many states of a head LinearAttentionSaved::states has when the problem is causal.
using LinearAttentionSegments = int64_t(const Device&, const LinearAttentionProblem&);
LinearAttentionSegments LinearAttentionSegmentsHost;  // reference and CPU
LinearAttentionSegments LinearAttentionSegmentsCuda;

struct LinearAttentionKernels {
  LinearAttentionForwardKernel* forward = nullptr;
  LinearAttentionBackwardKernel* backward = nullptr;
  LinearAttentionUndoKernel* undo = nullptr;
  LinearAttentionSegments* segments = nullptr;
};
void RegisterLinearAttention(DeviceKind kind, const LinearAttentionKernels& kernels);

}  // namespace weft::kernels
