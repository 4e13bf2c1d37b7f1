// The ops of linear attention on the two paths for Hopper, and what all paths take from a problem.
// Private to linear_attention/cuda.
#pragma once

#include <cuda_bf16.h>

#include "kernels/attention/features/cuda/features_cuda.h"
#include "kernels/attention/linear_attention/cuda/portable_passes.h"
#include "kernels/attention/linear_attention/linear_attention_kernels.h"

namespace weft::kernels {

CudaFeatureMap CudaFeatureMapOf(const FeatureMap& map);
LinearCudaShape LinearShapeOf(const LinearAttentionProblem& p);  // in segments of the portable path

inline __nv_bfloat16* Elements(const Tensor& tensor) {
  return static_cast<__nv_bfloat16*>(tensor.address());
}
inline float* Sums(const Tensor& tensor) { return static_cast<float*>(tensor.address()); }
inline const int32_t* Valid(const LinearAttentionInputs& inputs) {
  return static_cast<const int32_t*>(inputs.valid.address());
}

// bf16 on a Hopper GPU, causal, keys and values of one width, 64 or 128, neither projection nor
// scale.
bool CoveredBySm90(const Device& device, const LinearAttentionProblem& p);

int64_t LinearAttentionSegmentsSm90(const LinearAttentionProblem& p);
LinearAttentionForwardKernel LinearAttentionForwardSm90;
LinearAttentionBackwardKernel LinearAttentionBackwardSm90;
LinearAttentionUndoKernel LinearAttentionUndoSm90;

// Likewise, but exponential features of a projection of 256 rows, of one sign; keys and values each
// 64 or 128 wide.
bool CoveredByProjected(const Device& device, const LinearAttentionProblem& p);

int64_t LinearAttentionSegmentsProjected(const LinearAttentionProblem& p);
LinearAttentionForwardKernel LinearAttentionForwardProjected;
LinearAttentionBackwardKernel LinearAttentionBackwardProjected;

}  // namespace weft::kernels
