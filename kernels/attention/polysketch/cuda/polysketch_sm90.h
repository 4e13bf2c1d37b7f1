// Polynomial attention on Hopper, where it counts most: sketched weights beyond exact blocks, from
// the first token to the last. Plain pointers into device memory; bf16 operands and results, fp32
// sums. polysketch_passes_sm90.h says how. Everything is enqueued on the stream.
#pragma once

#include "kernels/attention/polysketch/cuda/polysketch_passes_sm90.h"

namespace weft::kernels::sm90 {

// null where shapes are covered, else the reason.
const char* WhyNotCovered(const PolysketchCudaShape& shape);

// The states between blocks, which the forward pass leaves for the backward pass.
int64_t PolysketchRecordBytes(const PolysketchCudaShape& shape);

struct PolysketchForwardArgs {
  PolysketchCudaShape shape;
  const __nv_bfloat16* q;      // [B, T, H, D]
  const __nv_bfloat16* k;      // [B, T, H, D]
  const __nv_bfloat16* phi_q;  // [B, T, H, r]
  const __nv_bfloat16* phi_k;  // [B, T, H, r]
  const __nv_bfloat16* v;      // [B, T, H, D]
  __nv_bfloat16* o;            // [B, T, H, D]
  float* total;                // [B, H, T]; null: not wanted
  float* far;                  // [B, H, T]
  uint8_t* record;             // PolysketchRecordBytes
  uint8_t* scratch;            // PolysketchForwardBytes
};
int64_t PolysketchForwardBytes(const PolysketchCudaShape& shape);
cudaError_t PolysketchForward(const PolysketchForwardArgs& args, cudaStream_t stream);

struct PolysketchBackwardArgs {
  PolysketchCudaShape shape;
  const __nv_bfloat16* q;
  const __nv_bfloat16* k;
  const __nv_bfloat16* phi_q;
  const __nv_bfloat16* phi_k;
  const __nv_bfloat16* v;
  const __nv_bfloat16* o;
  const float* total;
  const float* far;
  uint8_t* record;  // PolysketchRecordBytes
  bool recorded;    // read as the forward pass left it; else made again
  const __nv_bfloat16* d_o;
  __nv_bfloat16* d_q;
  __nv_bfloat16* d_k;
  __nv_bfloat16* d_phi_q;
  __nv_bfloat16* d_phi_k;
  __nv_bfloat16* d_v;
  uint8_t* scratch;  // PolysketchBackwardBytes
};
int64_t PolysketchBackwardBytes(const PolysketchCudaShape& shape);
cudaError_t PolysketchBackward(const PolysketchBackwardArgs& args, cudaStream_t stream);

}  // namespace weft::kernels::sm90
