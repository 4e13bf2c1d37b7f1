// The delta rule on Hopper: the passes of chunk_record.h on plain pointers into device memory. bf16
// operands and results, fp32 accumulation and states. For key_dim 64 or 128 and value_dim 64 or
// 128. Everything is enqueued on the stream.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "kernels/attention/delta/cuda/chunk_record.h"

namespace weft::kernels::sm90 {

bool Covers(const DeltaCudaShape& shape);

struct DeltaForwardArgs {
  DeltaCudaShape shape;
  const __nv_bfloat16* q;      // [B, T, H, Dk]
  const __nv_bfloat16* k;      // [B, T, H, Dk]
  const __nv_bfloat16* v;      // [B, T, H, Dv]
  const float* beta;           // [B, T, H]
  uint8_t* records;            // [B, H, chunks] of kRecordBytes: written
  const float* initial_state;  // [B, H, Dk, Dv]; null: zero
  __nv_bfloat16* o;            // [B, T, H, Dv]
  __nv_bfloat16* errors;       // [B, T, H, Dv]; null: not wanted
  float* final_state;          // [B, H, Dk, Dv]; null: not wanted
  float* saved_state;          // [B, H, Dk, Dv]; null: not wanted
};
cudaError_t DeltaForward(const DeltaForwardArgs& args, cudaStream_t stream);

struct DeltaBackwardArgs {
  DeltaCudaShape shape;
  const __nv_bfloat16* q;
  const __nv_bfloat16* k;
  const uint8_t* records;       // as DeltaForward left them
  const __nv_bfloat16* errors;  // [B, T, H, Dv]
  const float* saved_state;     // [B, H, Dk, Dv]: the last state
  const __nv_bfloat16* d_o;     // [B, T, H, Dv]
  const float* d_final_state;   // null: zero
  __nv_bfloat16* d_q;
  __nv_bfloat16* d_k;
  __nv_bfloat16* d_v;
  float* d_beta;           // [B, T, H]
  float* d_initial_state;  // null: not wanted
  uint8_t* scratch;        // BackwardScratchBytes
};
int64_t BackwardScratchBytes(const DeltaCudaShape& shape);
cudaError_t DeltaBackward(const DeltaBackwardArgs& args, cudaStream_t stream);

}  // namespace weft::kernels::sm90
