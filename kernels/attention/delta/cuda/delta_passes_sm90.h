// The passes behind delta_sm90.h, each a kernel in a file of its own.
#pragma once

#include <cudaTypedefs.h>

#include "kernels/attention/delta/cuda/delta_sm90.h"

namespace weft::kernels::sm90 {

cudaError_t LaunchPrepare(const DeltaCudaShape& shape, const CUtensorMap& q, const CUtensorMap& k,
                          const float* beta, uint8_t* records, cudaStream_t stream);

// Heads of all sequences from which on a block for each fills the machine.
inline constexpr int kManyHeads = 128;
// Slices of 64 values that a block of the serial passes takes: 1 or 2.
int SlicesOfBlock(const DeltaCudaShape& shape);

struct DeltaForwardMaps {
  CUtensorMap q;
  CUtensorMap k;
  CUtensorMap v;
  CUtensorMap o;
  CUtensorMap errors;  // of o when errors are not wanted
};
cudaError_t LaunchForward(const DeltaForwardArgs& args, const DeltaForwardMaps& maps,
                          cudaStream_t stream);

struct DeltaBackwardMaps {
  CUtensorMap q;
  CUtensorMap k;
  CUtensorMap errors;
  CUtensorMap d_o;
  CUtensorMap d_q;
  CUtensorMap d_k;
  CUtensorMap d_v;
};
// What the pass `states` leaves for `gradients`, for each (batch, head, chunk): S before the chunk
// and the gradient of S after it, bf16, transposed and in tiles of 64 values x 64 keys as shared
// memory holds them, all of 64 values first; and y . e of its tokens, summed over 64 values.
struct DeltaChunkStates {
  uint8_t* states;
  uint8_t* gradients;
  float* beta_gradients;  // [value_dim / 64, B, H, chunks, 64]
};
cudaError_t LaunchStates(const DeltaBackwardArgs& args, const DeltaBackwardMaps& maps,
                         const DeltaChunkStates& scratch, cudaStream_t stream);
cudaError_t LaunchGradients(const DeltaBackwardArgs& args, const DeltaBackwardMaps& maps,
                            const DeltaChunkStates& scratch, cudaStream_t stream);

}  // namespace weft::kernels::sm90
