// SBM attention: every head attends along the edges of a graph that is drawn anew in every pass
// from a stochastic block model of its queries and keys. Cho et al. 2022, "Transformers meet
// Stochastic Block Models: Attention with Data-Adaptive Sparsity and Cost".
//
//   p_ij = y_i S z_j^T        y, z: memberships of query i and key j in clusters, in [0, 1]
//                             S: affinity of the clusters, >= 0, sum 1 (memberships.h makes all
//                             three)
//   M_ij in {0, 1}            drawn, independent of each other, with intensity p_ij + exploration
//   w_ij = M_ij exp(scale q_i . k_j) / sum_l M_il exp(scale q_i . k_l),   o_i = sum_j w_ij v_j
//
// Three ops: draw the graph, attend along it, and the gradients. The work of drawing and attending
// grows with the number of edges; only the graph's bits (an eighth of a byte a pair) do not.
//
// Gradients flow through q, k, v along the edges, and through p by a straight-through estimate: a
// drawn edge passes on a gradient as if M were p, a pair without an edge passes on none. The
// exploration has no gradient.
// Threads: as the stream (used by one thread at a time).
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/attention/dropout.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// How edges are drawn.
enum class SbmSampler : uint8_t {
  // As many as a Poisson count with mean p + exploration says; copies merge into one edge, so a
  // pair
  // is linked with probability 1 - exp(-(p + exploration)). Rohe et al. 2018, "A note on quickly
  // sampling a sparse matrix with low rank expectation", split by query: cost follows the edges.
  kPoisson,
  // The same; c copies of an edge count c times, as if ln c were added to its logit.
  kPoissonCopies,
  // With probability min(p + exploration, 1). Candidates are drawn as above from a larger intensity
  // and thinned; queries that would have too many of them visit all their keys.
  kExact,
  // The same law, every pair visited: cost follows the pairs.
  kDense,
};

// What the gradient of p_ij is on an edge, h_ij = w_ij (d_o_i . v_j - d_o_i . o_i) being that of
// its logit: each edge's value is clipped, then copies are added up.
enum class SbmStraightThrough : uint8_t {
  kMask,   // clip(h_ij + density part): the edge multiplies the weight
  kLogit,  // clip(h_ij scale q_i . k_j + density part): the edge multiplies the logit
};

// B batch, T queries, S keys, H heads, D head_dim, K clusters in the shapes below. Tensors of
// queries, keys, values and results, and their gradients, have the device's compute type;
// memberships, affinities, their gradients, the density and lse its sum type.
//
// Queries stand at the end of the keys: query i has position i + S - T among them. One query and S
// keys is decoding.
struct SbmProblem {
  int64_t batch = 1;
  int64_t queries = 0;  // at most keys
  int64_t keys = 0;
  int64_t heads = 1;
  int64_t head_dim = 0;
  int64_t clusters = 1;
  double scale = 1.0;   // usually 1/sqrt(head_dim)
  bool causal = false;  // no edge leads to a key after the query's position

  SbmSampler sampler = SbmSampler::kPoisson;
  // Added to every p when edges are drawn, so that no pair is out of reach for ever; in [0, 0.5].
  double exploration = 0.01;

  AttentionDropout dropout = {};  // of the weights w

  SbmStraightThrough straight_through = SbmStraightThrough::kMask;
  double clip = 1.0;  // of the gradient of p on one edge; infinity: none
  // The gradient of the loss with respect to the density of one head of one sequence.
  double density_gradient = 0.0;

  // A block of queries with at least this share of its pairs linked is computed as dense products
  // under a mask, others edge by edge; in the forward pass, where the edges have less to do, with
  // at least 1.5 times this share. Measured on CPU with 2048 keys, 32 to 64 channels and 16 to 128
  // clusters: the ways meet at 0.17 to 0.23, and at 0.33. Changes cost and last bits only; the
  // reference ignores it.
  double dense_above = 0.2;
};
inline constexpr int64_t kMaxSbmKeys = int64_t{1} << 24;
inline constexpr int64_t kMaxSbmClusters = int64_t{1} << 14;

// Where in the job a graph is drawn. An edge depends on this, the sequence's number, the head, the
// positions and the memberships: never on ranks, micro-batches, padding or threads.
struct SbmDraws {
  uint64_t seed = 0;
  uint32_t step = 0;           // < 2^28: of the optimizer, or the number of an evaluation
  uint32_t layer = 0;          // < 2^12
  int64_t first_sequence = 0;  // of row 0, in the optimizer step's whole batch;
                               // (first_sequence + B) heads <= 2^20
  bool training = true;        // otherwise other draws
};

// Memberships and affinity, or their gradients.
struct SbmMemberships {
  Tensor query;     // [B, H, T, K]
  Tensor key;       // [B, H, S, K]
  Tensor affinity;  // [H, K, K]
};

struct SbmGraph {
  Tensor bits;     // I32 [B, H, T, 2 ceil(S / 64)]: key j is bit j % 32 of word j / 32
  Tensor copies;   // I32 [B, H, T, ceil(S / 4)]: byte j % 4 of word j / 4, from the lowest, counts
                   // the copies of edge j, at most 255; only with kPoissonCopies
  Tensor density;  // [B, H]: edges, copies counted, over the pairs that could be edges
};

// kInvalidArgument: the problem makes sense on no device. kUnimplemented: not on this device.
absl::Status Supports(const Device& device, const SbmProblem& problem);

absl::StatusOr<SbmGraph> NewSbmGraph(Device& device, const SbmProblem& problem);

// Draws the edges. valid I32 [B, S]: 0 marks padding, which has no edges as a key nor as a query;
// absent: there is none. Memberships are rounded to multiples of 2^-20 and the affinity to 2^-32,
// and values outside [0, 1] or NaN are brought inside: from there on all is integer arithmetic, so
// every device draws the same graph from the same memberships.
// kInvalidArgument, naming the operand, on a wrong shape, type or device; else as Supports.
absl::Status SbmSampleGraph(Stream& stream, const SbmProblem& problem, const SbmDraws& draws,
                            const SbmMemberships& memberships, const Tensor& valid,
                            SbmGraph& graph);

// q, o [B, T, H, D]; k, v [B, S, H, D]; lse [B, H, T]: the natural logarithm of the sum of
// exponentials along the edges of a query. A query without edges has o = 0 and lse = -infinity.
absl::Status SbmForward(Stream& stream, const SbmProblem& problem, const Tensor& q, const Tensor& k,
                        const Tensor& v, const SbmGraph& graph, Tensor& o, Tensor& lse);

// What SbmBackward reads beside its problem: the operands and results of the passes
// before.
struct SbmSaved {
  Tensor q, k, v, o, lse;
  SbmMemberships memberships;
  Tensor valid;
  SbmGraph graph;
};

// The gradients of SbmForward and, through the edges, of the memberships. Overwrites d_q, d_k, d_v
// (shaped as q, k, v) and all of d_memberships.
absl::Status SbmBackward(Stream& stream, const SbmProblem& problem, const SbmSaved& saved,
                         const Tensor& d_o, Tensor& d_q, Tensor& d_k, Tensor& d_v,
                         SbmMemberships& d_memberships);

}  // namespace weft::kernels
