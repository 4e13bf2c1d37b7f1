// The passes of polynomial attention on Hopper and what lies between them in memory.
//
// F(phi), the products of pairs of features, is formed in registers wherever it is multiplied and
// never stored. It is cut into squares: features in groups of 8, and for each pair (A, B) of
// groups, A <= B, the 64 products phi[8 A + a] phi[8 B + b] in the order of 8 a + b. Of r = 32
// features that makes 10 pairs of groups (640 products instead of the 528 that differ), of 64 it
// makes 36.
//
// The state before a block is, for each pair, a square S^T [D, 64] of bf16 (128-byte swizzle, as
// wgmma reads it) and E [64] in fp32. The pass that folds writes what one block adds; the pass that
// sums turns these into states, in fp32 on the way, times the factor with which they are read: 2
// where A < B, because such products stand for two.
//
//   forward:  fold keys, sum forwards, attend
//   backward: slopes of queries; fold keys, sum forwards; fold queries (values d_o / Z), sum
//             backwards; gradients of queries; gradients of keys
#pragma once

#include <cudaTypedefs.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::kernels::sm90 {

struct PolysketchCudaShape {
  int batch = 1;
  int tokens = 0;
  int heads = 1;
  int width = 128;    // D
  int sketch = 32;    // r
  int block = 1024;   // tokens that meet one by one
  int squarings = 2;  // the power is 2^squarings
  float scale = 1;    // 1 / kappa
  float unit = 1;     // kappa^-p
  float c0 = 1;       // times unit
};

inline constexpr int kRowsOfBlock = 128;  // queries or keys of a thread block: 64 a warpgroup

__host__ __device__ inline int BlocksOf(const PolysketchCudaShape& s) {
  return (s.tokens + s.block - 1) / s.block;
}
// States between blocks: slot i holds what block i + 1 reads, or what block i is asked for.
__host__ __device__ inline int SlotsOf(const PolysketchCudaShape& s) { return BlocksOf(s) - 1; }
__host__ __device__ inline int PaddedTokens(const PolysketchCudaShape& s) {
  return (s.tokens + kRowsOfBlock - 1) / kRowsOfBlock * kRowsOfBlock;
}
__host__ __device__ inline int PairsOf(int sketch) { return sketch / 8 * (sketch / 8 + 1) / 2; }
__host__ __device__ constexpr int SquareBytes(int width) { return width * 128; }

// [B H, slots, pairs] squares, and [B H, slots, pairs, 64] masses.
struct PolysketchStates {
  uint8_t* squares = nullptr;
  float* masses = nullptr;
};

// phi [B, T, H, r] as folding reads it: for each head and 64 tokens, r rows of 128 bytes. 8 bytes
// of a row hold tokens 2 t, 2 t + 1, 2 t + 8, 2 t + 9 of 16, as an operand of wgmma has them
// together.
cudaError_t LaunchTurnFeatures(const PolysketchCudaShape& shape, const __nv_bfloat16* phi,
                               uint8_t* turned, cudaStream_t stream);
__host__ __device__ inline int64_t TurnedBytes(const PolysketchCudaShape& s) {
  return int64_t{s.batch} * s.heads * PaddedTokens(s) * s.sketch * 2;
}

// What each block adds: slot i of block i + first_block. `weights` [B H, padded tokens], of the
// masses; null: 1.
cudaError_t LaunchFold(const PolysketchCudaShape& shape, const CUtensorMap& values,
                       const uint8_t* turned, const float* weights, int first_block,
                       const PolysketchStates& states, cudaStream_t stream);
// Running sums over the slots, forwards or backwards, times `factor`.
cudaError_t LaunchSum(const PolysketchCudaShape& shape, bool backwards, float factor,
                      const PolysketchStates& states, cudaStream_t stream);

// d_num = d_o / Z [B, T, H, D]; shift and far_shift [B H, padded tokens].
struct SlopesArgs {
  const __nv_bfloat16* o;
  const __nv_bfloat16* d_o;
  const float* total;  // [B H, T]
  const float* far;    // [B H, T]
  __nv_bfloat16* d_num;
  float* shift;
  float* far_shift;
};
cudaError_t LaunchSlopes(const PolysketchCudaShape& shape, const SlopesArgs& args,
                         cudaStream_t stream);

struct AttendParams {
  CUtensorMap q, k, v, o;    // [B, T, H, D]
  const __nv_bfloat16* phi;  // of queries
  PolysketchStates states;
  float* total;  // [B H, T]; null: not wanted
  float* far;
  PolysketchCudaShape shape;
};
cudaError_t LaunchAttend(const AttendParams& params, cudaStream_t stream);

struct QueryGradientParams {
  CUtensorMap q, k, v, d_num, d_q;
  const __nv_bfloat16* phi;  // of queries
  __nv_bfloat16* d_phi;
  PolysketchStates states;
  const float* shift;
  const float* far_shift;
  PolysketchCudaShape shape;
};
cudaError_t LaunchQueryGradients(const QueryGradientParams& params, cudaStream_t stream);

struct KeyGradientParams {
  CUtensorMap q, k, v, d_num, d_k, d_v;
  const __nv_bfloat16* phi;  // of keys
  __nv_bfloat16* d_phi;
  PolysketchStates states;  // the gradients of states
  const float* shift;
  PolysketchCudaShape shape;
};
cudaError_t LaunchKeyGradients(const KeyGradientParams& params, cudaStream_t stream);

}  // namespace weft::kernels::sm90
