// The ops of linear attention on the path for Hopper, and what both paths take from a problem.
// Private to linear_attention/cuda.
#pragma once

#include "kernels/attention/features/cuda/features_cuda.h"
#include "kernels/attention/linear_attention/cuda/portable_passes.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"

namespace weft::kernels {

CudaFeatureMap CudaFeatureMapOf(const FeatureMap& map);
LinearCudaShape LinearShapeOf(const LinearAttentionProblem& p);  // in segments of the portable path

// bf16 on a Hopper GPU, causal, keys and values of one width, 64 or 128, neither projection nor
// scale.
bool CoveredBySm90(const Device& device, const LinearAttentionProblem& p);

int64_t LinearAttentionSegmentsSm90(const LinearAttentionProblem& p);
LinearAttentionForwardKernel LinearAttentionForwardSm90;
LinearAttentionBackwardKernel LinearAttentionBackwardSm90;
LinearAttentionUndoKernel LinearAttentionUndoSm90;

}  // namespace weft::kernels
