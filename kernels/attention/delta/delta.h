// The delta rule: linear attention whose state S [Dk, Dv] is corrected by every token, not only
// added to. One head, token by token (keys along the rows of S):
//
//   e_t = v_t - S_{t-1}^T k_t          what the state gets wrong about the token
//   S_t = S_{t-1} + beta_t k_t e_t^T   one gradient step on 1/2 |S^T k_t - v_t|^2
//   o_t = S_t^T q_t                    after the update: a token sees itself
//
// Computed in chunks, so that the work is matrix products: Yang et al. 2024, "Parallelizing Linear
// Transformers with the Delta Rule over Sequence Length", section 3.
//
// Stable for |k_t| <= 1 and 0 <= beta_t <= 2. The scale (1/sqrt(Dk)) is part of q: the op that
// normalises the queries multiplies it in. Threads: as the stream (used by one thread at a time).
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// B batch, T tokens, H heads, Dk key_dim, Dv value_dim in the shapes below. All tensors have the
// device's compute type; beta, its gradient and all states have its sum type.
struct DeltaProblem {
  int64_t batch = 1;
  int64_t tokens = 0;  // of this call; 1 is decoding, 0 passes the state through
  int64_t heads = 1;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  // Tokens that are solved together, 1 ... kMaxDeltaChunk. Changes the cost and the last bits of a
  // result, never its meaning; the reference device ignores it.
  int64_t chunk = 64;
};
inline constexpr int64_t kMaxDeltaChunk = 256;

// What the backward pass needs from the forward pass beside its operands. Neither v nor the states
// between the chunks are kept: S before a chunk is S after it minus K^T diag(beta) E, so the
// backward pass unrolls the states from the last one. (In fp32, over 65,536 tokens with nearly
// parallel keys, gradients stay within 2e-5 of the exact ones.)
struct DeltaSaved {
  Tensor errors;  // e_t: [B, T, H, Dv]
  Tensor state;   // S after the last token: [B, H, Dk, Dv]
  Tensor record;  // what the device's kernels keep for themselves; absent where they keep nothing
};

// kInvalidArgument: the problem makes sense on no device. kUnimplemented: not on this device.
absl::Status Supports(const Device& device, const DeltaProblem& problem);

absl::StatusOr<DeltaSaved> NewDeltaSaved(Device& device, const DeltaProblem& problem);

// q, k [B, T, H, Dk], v, o [B, T, H, Dv], beta [B, T, H].
// initial_state [B, H, Dk, Dv]: absent means zero. final_state [B, H, Dk, Dv]: absent means not
// wanted; it may be the tensor that initial_state is (decoding in place).
// saved: made by NewDeltaSaved for this problem, or DeltaSaved{} when no backward pass follows.
// kInvalidArgument, naming the operand, on a wrong shape, type or device; else as Supports.
absl::Status DeltaForward(Stream& stream, const DeltaProblem& problem, const Tensor& q,
                          const Tensor& k, const Tensor& v, const Tensor& beta,
                          const Tensor& initial_state, Tensor& o, Tensor& final_state,
                          DeltaSaved& saved);

// The gradients of DeltaForward, given d_o and, when the final state was used, d_final_state
// [B, H, Dk, Dv] (absent: zero). Overwrites d_q, d_k, d_v, d_beta (shaped as q, k, v, beta) and
// d_initial_state [B, H, Dk, Dv] (absent: not wanted; may be the tensor that d_final_state is).
// Of `saved` nothing is changed, so a backward pass may be repeated.
absl::Status DeltaBackward(Stream& stream, const DeltaProblem& problem, const Tensor& q,
                           const Tensor& k, const Tensor& beta, const DeltaSaved& saved,
                           const Tensor& d_o, const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                           Tensor& d_v, Tensor& d_beta, Tensor& d_initial_state);

}  // namespace weft::kernels
