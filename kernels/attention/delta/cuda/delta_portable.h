// The delta rule token by token, for every shape, in bf16 or fp32, on every GPU since sm_80: where
// the kernels of delta_sm90.h do not reach. One token waits for the one before it and no tensor
// core works, so a long sequence takes ten times as long as there. Everything is enqueued on the
// stream.
#pragma once

#include "kernels/attention/delta/cuda/chunk_record.h"
#include "kernels/device/cuda/launch.h"

namespace weft::kernels::portable {

// Operands and results have the compute type of the device; beta, its gradient and the states are
// fp32. The state of a head is kept in device memory while its tokens pass.
struct DeltaForwardArgs {
  DeltaCudaShape shape;
  const void* q;      // [B, T, H, Dk]
  const void* k;      // [B, T, H, Dk]
  const void* v;      // [B, T, H, Dv]
  const float* beta;  // [B, T, H]
  float* state;       // [B, H, Dk, Dv]: before the tokens, then after them
  void* o;            // [B, T, H, Dv]
  void* errors;       // [B, T, H, Dv]; null: not wanted
};
cudaError_t DeltaForward(const CudaLaunch& on, const DeltaForwardArgs& args);

struct DeltaBackwardArgs {
  DeltaCudaShape shape;
  const void* q;
  const void* k;
  const float* beta;
  const void* errors;  // [B, T, H, Dv]
  const void* d_o;     // [B, T, H, Dv]
  float* state;        // [B, H, Dk, Dv]: after the tokens, then as far as they can be undone
  float* d_state;      // likewise its gradient: after the tokens, then before them
  void* d_q;
  void* d_k;
  void* d_v;
  float* d_beta;
};
cudaError_t DeltaBackward(const CudaLaunch& on, const DeltaBackwardArgs& args);

}  // namespace weft::kernels::portable
