// Polynomial attention, exact, sketched, or exact within blocks and sketched beyond them: the core
// of PolySketchFormer (Kacham, Mirrokni and Zhong 2024, "PolySketchFormer: Fast transformers via
// sketching polynomial kernels"). One head, token i and what it sees, j <= i when causal, else all:
//
//   w_ij = (q_i . k_j)^p            exact: p even, so no weight is negative
//   w_ij = (phi_i . phi_j)^2        sketched: phi are degree-p/2 features of width r of q and k
//   Z_i  = c0 + sum_j w_ij          one denominator for exact and sketched weights together
//   o_i  = sum_j w_ij v_j / Z_i     rows of weights sum to less than 1 by c0 / Z_i
//
// (phi . psi)^2 = F(phi) . F(psi) where F holds the r (r + 1) / 2 products of two entries, so all
// that later blocks need of a block of tokens is S = sum_j F(phi_j) v_j^T and E = sum_j phi_j
// phi_j^T: time and memory are linear in the tokens.
//
// How the features are made: random_sketch.h, learned_sketch.h. Threads: as the stream.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// Which weights are exact.
enum class PolysketchWeights : uint8_t {
  kExact,     // all: time grows with the square of the tokens
  kSketched,  // none
  kMixed,     // those of pairs in the same block of tokens (aligned, not sliding); causal only
};

// B batch, T queries, S keys, H heads, D head_dim, r sketch_dim, m = r (r + 1) / 2 in the shapes
// below. All tensors have the device's compute type but states and what is saved for the backward
// pass: sums, of its sum type.
struct PolysketchProblem {
  PolysketchWeights weights = PolysketchWeights::kMixed;
  int64_t batch = 1;
  // Causal: the queries belong to the last T of the S keys. Key 0 begins a block, so a text that is
  // decoded passes the keys of its unfinished block and the state of all blocks before it.
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t heads = 1;
  int64_t head_dim = 0;    // of q, k, v and o
  int64_t sketch_dim = 0;  // of phi; 0 when all weights are exact
  int64_t degree = 4;      // p: 2, 4 or 8
  // Mixed: tokens in a block, part of what is computed. Sketched: tokens that are solved together,
  // which changes the cost and the last bits of a result, never its meaning. Exact: ignored.
  int64_t block = 256;
  bool causal = true;
  double c0 = 1.0;  // at least 0. With 0, a query whose weights are all zero reads zero
  // Positive. Weights are computed as w / kappa^p and c0 as c0 / kappa^p, which changes nothing but
  // the size of the numbers on the way: the widest q . k may be kappa times as large. Products of
  // layer-normalised q and k are at most D in size, so kappa = D keeps all weights below 1.
  double kappa = 1.0;
};

// Entries of F for features of width r.
constexpr int64_t SelfProducts(int64_t r) { return r * (r + 1) / 2; }

// Where F holds the product of entries a and b (times sqrt(2) when they differ): in bands of equal
// distance on the circle of entries.
constexpr int64_t SelfProductIndex(int64_t r, int64_t a, int64_t b) {
  const int64_t low = a < b ? a : b;
  const int64_t high = a < b ? b : a;
  const int64_t distance = high - low;
  return 2 * distance <= r ? distance * r + low : (r - distance) * r + high;
}

struct PolysketchInputs {
  Tensor q, k;          // [B, T, H, D], [B, S, H, D]; absent when all weights are sketched
  Tensor phi_q, phi_k;  // [B, T, H, r], [B, S, H, r]; absent when all weights are exact
  Tensor v;             // [B, S, H, D]
  Tensor valid;         // I32 [B, S]: 0 marks a key that nobody sees; absent: all are seen
};

// The past as the sketches know it: S and E of tokens that came before, without kappa. Either both
// tensors are present or none, which means zero, or for a result that it is not wanted.
struct PolysketchState {
  Tensor values;  // S: [B, H, m, D]
  Tensor mass;    // E: [B, H, r, r], symmetric
};

// What the backward pass needs beside inputs and results; total and far are [B, H, T].
struct PolysketchSaved {
  Tensor total;  // Z / kappa^p
  Tensor far;    // the part of it that was read from E: zero where rounding made it negative
  // What the device's kernels keep for themselves: on some devices the states between blocks.
  // Absent where they keep nothing.
  Tensor record;
  bool recorded = false;  // whether the forward pass has written it
};

// Shaped as the inputs; absent where those are.
struct PolysketchGradients {
  Tensor q, k, phi_q, phi_k, v;
};

// kInvalidArgument: the problem makes sense on no device. kUnimplemented: not on this device.
absl::Status Supports(const Device& device, const PolysketchProblem& problem);

absl::StatusOr<PolysketchSaved> NewPolysketchSaved(Device& device,
                                                   const PolysketchProblem& problem);
// Zero: the state before the first token.
absl::StatusOr<PolysketchState> NewPolysketchState(Device& device,
                                                   const PolysketchProblem& problem);

// o [B, T, H, D]. `initial` is what came before key 0; `final` what it is after the last key
// (mixed: after the last complete block of keys), and may be the very tensors of `initial`. Both
// are absent when all weights are exact or the problem is not causal.
// saved: made by NewPolysketchSaved, or PolysketchSaved{} when no backward pass follows.
// kInvalidArgument, naming the operand, on a wrong shape, type or device; else as Supports.
absl::Status PolysketchForward(Stream& stream, const PolysketchProblem& problem,
                               const PolysketchInputs& inputs, const PolysketchState& initial,
                               Tensor& o, PolysketchState& final, PolysketchSaved& saved);

// The gradients of PolysketchForward, given its results o and saved, d_o, and d_final when the
// final state was used. Overwrites `gradients`, and d_initial (absent: not wanted; may be the very
// tensors of d_final). Where they were not recorded, the states between blocks are made again from
// `initial`. The gradient of the far denominator is zero where it was negative by rounding.
absl::Status PolysketchBackward(Stream& stream, const PolysketchProblem& problem,
                                const PolysketchInputs& inputs, const PolysketchState& initial,
                                const Tensor& o, const PolysketchSaved& saved, const Tensor& d_o,
                                const PolysketchState& d_final, PolysketchGradients& gradients,
                                PolysketchState& d_initial);

// Takes all keys back out of a state: what PolysketchForward made `final` of becomes `initial`
// again, up to the rounding of the sums. Of the inputs it reads phi_k, v and valid; the others may
// be absent. kInvalidArgument unless the problem is causal and all its weights are sketched: a
// mixed state does not hold the keys of an unfinished block, and exact weights have none.
absl::Status PolysketchUndo(Stream& stream, const PolysketchProblem& problem,
                            const PolysketchInputs& inputs, PolysketchState& state);

}  // namespace weft::kernels
