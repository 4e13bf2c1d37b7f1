// Softmax attention on Hopper, bf16: for heads 64 or 128 wide, as many queries as keys,
// no padding, no dropout. Everything is enqueued; bits depend on the problem alone.
#pragma once

#include <cudaTypedefs.h>

#include "kernels/attention/softmax/cuda/softmax_cuda.h"

namespace weft::kernels::sm90 {

// Queries of a tile: 64 x 128 or 128 x 64 numbers.
inline int TileQueries(int head_dim) { return head_dim == 64 ? 128 : 64; }
inline constexpr int kBlockKeys = 128;

// null where the problem is covered, else the reason.
const char* WhyNotCovered(const SoftmaxCudaProblem& p);

// taken: working space for one number.
cudaError_t SoftmaxForward(const CudaLaunch& on, const SoftmaxCudaProblem& p, int32_t* taken,
                           void* o, float* lse);

int64_t SoftmaxBackwardScratchBytes(const SoftmaxCudaProblem& p);
// g.means is not used.
cudaError_t SoftmaxBackward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                            const SoftmaxCudaGradients& g, uint8_t* scratch);

// ---- Between the parts

// Boxes of 64 queries, and of kBlockKeys keys.
struct SoftmaxForwardMaps {
  CUtensorMap q;
  CUtensorMap k;
  CUtensorMap v;
  CUtensorMap o;
};
cudaError_t LaunchSoftmaxForward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                                 const SoftmaxForwardMaps& maps, int32_t* taken, float* lse);

// Boxes of TileQueries queries, 64 of d_q, and of kBlockKeys keys.
struct SoftmaxBackwardMaps {
  CUtensorMap q;
  CUtensorMap o;
  CUtensorMap d_o;
  CUtensorMap k;
  CUtensorMap v;
  CUtensorMap d_q;
  CUtensorMap d_k;
  CUtensorMap d_v;
};
struct SoftmaxBackwardScratch {
  int tiles;      // of the queries of a head
  float* shifts;  // [B, H, tiles, queries of a tile]: lse in powers of two; infinite after the end
  float* means;   // likewise: sum_j p_ij dp_ij
  float4* d_q;    // [B, H, tiles, 2, 8, 128]: halves of a tile of d_q as the accumulators hold it,
                  // added up but for what the last key block adds
  // Zeros before the call:
  int32_t* turns;   // [B, H, tiles, 2]: key blocks that have added to that half
  int32_t* known;   // [B, H, tiles]: whether shifts and means are there
  int32_t* ticket;  // the next piece of work to be taken
};
cudaError_t LaunchSoftmaxBackward(const CudaLaunch& on, const SoftmaxCudaProblem& p,
                                  const SoftmaxBackwardMaps& maps, const float* lse,
                                  const SoftmaxBackwardScratch& scratch);

}  // namespace weft::kernels::sm90
