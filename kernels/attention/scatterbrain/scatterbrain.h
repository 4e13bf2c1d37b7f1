// Scatterbrain attention: exact on a sparse support, random features elsewhere, one normaliser.
// Chen, Dao et al. 2021, "Scatterbrain: Unifying Sparse and Low-rank Attention Approximation".
//
//   A_ij = exp(scale q_i . k_j)   where (i, j) is on the support,
//          phi(q_i) . psi(k_j)    elsewhere among the pairs that i sees,
//   o_i  = sum_j A_ij v_j / sum_j A_ij.
//
// It is the low-rank matrix phi psi^T plus a sparse correction, so its cost is linear in the number
// of tokens; it is not a sum of two attentions. A query that sees no key has o = 0.
//
// Features (Choromanski et al. 2021, "Rethinking Attention with Performers"): with u = sqrt(scale)
// times q or k and the signed rows w_l of the matrix W, exp(w_l . u - |u|^2 / 2) / sqrt(r), whose
// products have the expectation exp(scale q . k). They are stored stabilised, and epsilon (eps
// below) is added to what is stored:
//
//   query i: c_i = max_l w_l . u_i;  phi_il = exp(w_l . u_i - c_i) + eps / sqrt(r),
//            to be multiplied by exp(c_i - |u_i|^2 / 2) / sqrt(r);
//   key j:   lambda_jl = w_l . u_j - |u_j|^2 / 2 - ln(r) / 2;  m_j = max over keys and l of lambda,
//            psi_jl = exp(lambda_jl - m_j) + eps / sqrt(r), to be multiplied by exp(m_j).
//
// m_j is the maximum over all keys that are not padding; in a causal problem over those up to j, so
// that nothing depends on later tokens. eps > 0 biases the low-rank part upward a little; with eps
// = 0 the result does not depend on c and m.
//
// Dropout never changes the normaliser. Threads: as the stream (used by one thread at a time).
#pragma once

#include <cstdint>
#include <memory>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/attention/dropout.h"
#include "kernels/attention/scatterbrain/block_layout.h"
#include "kernels/device/device.h"
#include "kernels/random/philox.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// ---- Supports: which pairs are exact. No support at all (std::monostate) leaves random features.

// Keys around the query: -floor(width / 2) <= j - i < floor((width + 1) / 2). A causal problem uses
// the first half of it: floor(width / 2) + 1 keys.
struct WindowSupport {
  int64_t width = 0;  // at least 1
};

// Queries and keys that a hash sorts into the same bucket, in any round (HashBuckets below).
// Queries and keys must make equally many buckets.
struct HashSupport {
  int64_t rounds = 1;
  int64_t query_bucket = 0;  // queries a bucket
  int64_t key_bucket = 0;    // keys a bucket
};

// Tiles of a fixed matrix, which must cover the queries and keys.
struct BlockSupport {
  std::shared_ptr<const BlockLayout> layout;
};

using ExactSupport = std::variant<std::monostate, WindowSupport, HashSupport, BlockSupport>;

// B batch, T queries, S keys, H heads, D key_dim, Dv value_dim, r features in the shapes below.
struct ScatterbrainProblem {
  // What dropout removes of the exact weights. kExact: exp(scale q k). kCorrection: the difference
  // between it and the low-rank weight, which then stands in for it.
  enum class Dropped : uint8_t { kExact, kCorrection };

  int64_t batch = 1;
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t heads = 1;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  double scale = 1.0;      // usually 1/sqrt(key_dim)
  bool causal = false;     // a query sees no key after it; queries must equal keys
  int64_t features = 0;    // r, at least 1
  bool hyperbolic = true;  // rows come in pairs w, -w (r is even), which lowers the variance
  double epsilon = 0.0;
  ExactSupport support = {};
  AttentionDropout dropout = {};
  Dropped dropped = Dropped::kExact;

  // Whether dropout puts low-rank weights in the place of exact ones.
  [[nodiscard]] bool drops_corrections() const {
    return dropout.on() && dropped == Dropped::kCorrection;
  }
  // Rows of W.
  [[nodiscard]] int64_t feature_rows() const { return hyperbolic ? features / 2 : features; }
};

// floor(d ln d) for a key width d, made even: enough features for a uniformly small error.
int64_t DefaultFeatures(int64_t key_dim);

// kInvalidArgument: the problem makes sense on no device. kUnimplemented: not on this device.
absl::Status Supports(const Device& device, const ScatterbrainProblem& problem);

// ---- Hashing (only for HashSupport)

// Which bucket a token is in: I32 [B, H, rounds, T] and [B, H, rounds, S], -1 for padding.
struct HashBucketTensors {
  Tensor queries;
  Tensor keys;
};

absl::StatusOr<HashBucketTensors> NewHashBuckets(Device& device,
                                                 const ScatterbrainProblem& problem);

// projections [rounds, D + 2], of the device's sum type: standard normals of (seed, site), one
// ordinal a round, rounded to fp32 on every device. Drawn anew for every step, evaluation included.
absl::Status DrawHashProjections(Stream& stream, const ScatterbrainProblem& problem, uint64_t seed,
                                 const DrawSite& site, Tensor& projections);

// Asymmetric hashing into balanced buckets: Daras et al. 2020, "SMYRF: Efficient Attention using
// Asymmetric Clustering". With M^2 = max |q|^2 + max |k|^2, queries become [q, 0, sqrt(M^2 -
// |q|^2)] and keys [k, sqrt(M^2 - |k|^2), 0]: near each other where q . k is large. Their products
// with a projection are sorted (ties: by index), and cut into buckets.
//
// valid: I32 [B, S], 0 marks padding, absent when there is none. Padding is sorted last and leaves
// the maxima alone; when queries and keys are equally many, queries are padding where keys are.
//
// In a causal problem each exact weight is one of the past, but which pairs are exact depends on
// the order of all tokens: the support leaks a little of the future, and a text cannot be decoded
// token by token. Computed in fp64 on every device, so the buckets are equal for equal operands.
absl::Status HashBuckets(Stream& stream, const ScatterbrainProblem& problem, const Tensor& q,
                         const Tensor& k, const Tensor& projections, const Tensor& valid,
                         HashBucketTensors& buckets);

// ---- Attention

struct ScatterbrainOperands {
  Tensor q;                   // [B, T, H, D]
  Tensor k;                   // [B, S, H, D]
  Tensor v;                   // [B, S, H, Dv]
  Tensor w;                   // [feature_rows, D], for all heads
  Tensor valid;               // I32 [B, S]: 0 marks a key that nobody sees. Absent: there is none
  HashBucketTensors buckets;  // of HashSupport; absent otherwise
};

// What the backward pass needs beside the operands. [B, H, T] each, of the device's sum type.
struct ScatterbrainSaved {
  // ln sum_j A_ij; -infinity where a query sees no key.
  Tensor log_normaliser;
  // The low-rank part of the normaliser, in [0, 1]. 0 where the support covers all that a query
  // sees, or where rounding ate what it leaves: the low-rank part is then a constant (but for
  // dropped corrections, whose place it takes).
  Tensor low_rank_share;
};

absl::StatusOr<ScatterbrainSaved> NewScatterbrainSaved(Device& device,
                                                       const ScatterbrainProblem& problem);

// o [B, T, H, Dv]. kInvalidArgument, naming the operand, on a wrong shape, type or device, or on a
// bucket out of range (which a GPU reports at the next Synchronize); else as Supports.
absl::Status ScatterbrainForward(Stream& stream, const ScatterbrainProblem& problem,
                                 const ScatterbrainOperands& in, Tensor& o,
                                 ScatterbrainSaved& saved);

// The gradients of ScatterbrainForward given d_o, its result and what it saved. The support and W
// are constants. Overwrites d_q, d_k, d_v (shaped as q, k, v).
absl::Status ScatterbrainBackward(Stream& stream, const ScatterbrainProblem& problem,
                                  const ScatterbrainOperands& in, const Tensor& o,
                                  const ScatterbrainSaved& saved, const Tensor& d_o, Tensor& d_q,
                                  Tensor& d_k, Tensor& d_v);

// ---- Decoding: one token after the other

// What a causal problem remembers of the tokens so far. `room` rows of keys: the window's, or with
// a block support all of them.
struct ScatterbrainState {
  Tensor keys;      // [B, room, H, D]; of token t in row t % room
  Tensor values;    // [B, room, H, Dv]
  Tensor features;  // [B, room, H, r]: psi
  Tensor scales;    // [B, room, H]: m
  Tensor sums;      // [B, H, r, Dv + 1]: of psi [v, 1], times exp(m - largest)
  Tensor largest;   // [B, H]: the m of the last token
  int64_t tokens = 0;
};

// As Supports, for a causal problem whose queries are the most tokens of a text; kUnimplemented for
// HashSupport, whose pairs depend on the tokens that are still to come.
absl::Status SupportsDecoding(const Device& device, const ScatterbrainProblem& problem);

absl::StatusOr<ScatterbrainState> NewScatterbrainState(Device& device,
                                                       const ScatterbrainProblem& problem);

// The next token's q, k [B, 1, H, D] and v [B, 1, H, Dv] -> o [B, 1, H, Dv]: what Forward without
// dropout gives at its place. w as above. kOutOfRange after problem.queries tokens.
absl::Status ScatterbrainDecode(Stream& stream, const ScatterbrainProblem& problem, const Tensor& q,
                                const Tensor& k, const Tensor& v, const Tensor& w,
                                ScatterbrainState& state, Tensor& o);

}  // namespace weft::kernels
