// The implementations behind linear_attention.h, three for each kind of device. Operands are
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

void RegisterLinearAttention(DeviceKind kind, LinearAttentionForwardKernel* forward,
                             LinearAttentionBackwardKernel* backward,
                             LinearAttentionUndoKernel* undo);

}  // namespace weft::kernels
