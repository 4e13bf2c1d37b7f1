// Softmax attention: the exact baseline, and the attention layers of the hybrids.
//
//   o_i = sum_j p_ij v_j,   p_ij = exp(scale q_i . k_j - lse_i) over the keys j that query i sees
//
// Computed tile by tile with a running maximum; the T x S matrix never exists: Dao et al. 2022,
// "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", section 3.1.
// Threads: as the stream (used by one thread at a time).
#pragma once

#include "absl/status/status.h"
#include "kernels/attention/dropout.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// B batch, T queries, S keys, H heads, Hk kv_heads, D head_dim in the shapes below. All tensors
// have the device's compute type, lse its sum type.
//
// Queries stand at the end of the keys: query i has position i + S - T among them. So one query and
// S keys is decoding; with T > S the first queries stand before the first key.
struct SoftmaxProblem {
  int64_t batch = 1;
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t heads = 1;
  int64_t kv_heads = 1;  // divides heads; head h reads key-value head h / (heads / kv_heads)
  int64_t head_dim = 0;
  double scale = 1.0;  // usually 1/sqrt(head_dim)
  bool causal = true;  // a query sees no key after its position
  // 0: no limit. w > 0: a query sees only keys less than w positions away; causal and w = 1: itself
  // alone.
  int64_t window = 0;
  // Of the weights p; the normaliser, and so lse, stays what it is.
  AttentionDropout dropout = {};
};

// kInvalidArgument: the problem makes sense on no device. kUnimplemented: not on this device.
absl::Status Supports(const Device& device, const SoftmaxProblem& problem);

// q, o [B, T, H, D]; k, v [B, S, Hk, D]; lse [B, H, T]: the natural logarithm of the sum of
// exponentials, what the backward pass needs. A query that sees no key has o = 0 and
// lse = -infinity. valid I32 [B, S]: 0 marks a key that nobody sees (padding); absent: there is
// none. kInvalidArgument, naming the operand, on a wrong shape, type or device; else as
// Supports.
absl::Status SoftmaxForward(Stream& stream, const SoftmaxProblem& problem, const Tensor& q,
                            const Tensor& k, const Tensor& v, const Tensor& valid, Tensor& o,
                            Tensor& lse);

// The gradients of SoftmaxForward, given d_o and its results o and lse. Overwrites d_q, d_k, d_v
// (shaped as q, k, v; d_k and d_v are summed over the heads that share them).
absl::Status SoftmaxBackward(Stream& stream, const SoftmaxProblem& problem, const Tensor& q,
                             const Tensor& k, const Tensor& v, const Tensor& valid, const Tensor& o,
                             const Tensor& lse, const Tensor& d_o, Tensor& d_q, Tensor& d_k,
                             Tensor& d_v);

}  // namespace weft::kernels
