// Linear attention: weights that are products of features, so that the past is a sum of fixed size.
// One head, with the feature map f (features/feature_map.h), k'_j = f(k_j) and q'_i = f(q_i):
//
//   o_i = sum_j w_ij v_j / (sum_j w_ij + guard),   w_ij = q'_i . k'_j over the keys that i sees
//       = R_i^T q'_i / (z_i . q'_i + guard),       R_i = sum_j k'_j v_j^T,  z_i = sum_j k'_j
//
// Katharopoulos et al. 2020, "Transformers are RNNs: fast autoregressive transformers with linear
// attention", section 3.2; with random features it is Choromanski et al. 2021, "Rethinking
// attention with performers". Computed in chunks, so that the work is matrix products.
//
// Exponential features are kept in range by the levels of the tokens: what query i sees is measured
// in units of exp(m_i), m_i the highest level among the keys it sees. Nothing depends on a token
// that a query does not see. The guard is in these units (of exp(m_i) times that of the query).
//
// Threads: as the stream (used by one thread at a time).
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/attention/features/feature_map.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor.h"

namespace weft::kernels {

// What keeps a vanishing sum of weights from dividing. A sum that is exactly 0 even then gives
// o_i = 0 and no gradient.
enum class DenominatorGuard : uint8_t {
  kAdd,        // epsilon is added to every sum: the SLiM Performer's, with 1e-16
  kLiftSmall,  // 2 epsilon is added where |sum| <= epsilon: the Performer's. For features that
               // leave out a factor 1/sqrt(M), as these do, M times its epsilon
};

// B batch, T tokens, H heads, Dk key_dim, Dv value_dim, M features in the shapes below. States,
// their gradients and what is saved have the device's sum type, all other tensors but `valid` its
// compute type.
struct LinearAttentionProblem {
  int64_t batch = 1;
  int64_t tokens = 0;  // of this call; 1 is decoding, 0 passes the state through
  int64_t heads = 1;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  FeatureMap features = {};
  bool causal = true;  // a query sees itself and what comes before it; else every token, no states
  DenominatorGuard guard = DenominatorGuard::kAdd;
  double guard_epsilon = 1e-16;
  // Tokens whose weights are computed together, 1 ... kMaxLinearAttentionChunk. Changes the cost
  // and the last bits of a result, never its meaning; the reference device ignores it.
  int64_t chunk = 64;
};
inline constexpr int64_t kMaxLinearAttentionChunk = 512;

// Elements of a head's state: R [M, Dv], then z [M], then m (of exponential features; else 0), R
// and z in units of exp(m). All zeros: no token was seen.
int64_t LinearAttentionStateSize(const LinearAttentionProblem& problem);

// What the backward pass needs from the forward pass beside its operands and results. The states
// between chunks are computed once more, from the states that are kept at the starts of segments
// (fixed runs of chunks); going back by subtraction would need none, but loses what large keys have
// covered: with exponential features, everything.
struct LinearAttentionSaved {
  Tensor denominators;  // [B, H, T], the guard included
  Tensor levels;        // m_i [B, H, T]; absent unless features are exponential
  // [B, H, segments, state]: before each segment, whose length is the device's affair; of the whole
  // when not causal.
  Tensor states;
};

// kInvalidArgument: the problem makes sense on no device. kUnimplemented: not on this device.
absl::Status Supports(const Device& device, const LinearAttentionProblem& problem);

absl::StatusOr<LinearAttentionSaved> NewLinearAttentionSaved(Device& device,
                                                             const LinearAttentionProblem& problem);

// What tokens bring along.
struct LinearAttentionInputs {
  Tensor q;           // [B, T, H, Dk]
  Tensor k;           // [B, T, H, Dk]
  Tensor v;           // [B, T, H, Dv]
  Tensor projection;  // W [rows, Dk], a constant; absent without rows
  Tensor valid;       // I32 [B, T]: 0 marks a token that no query sees; absent: all are seen
};

// o [B, T, H, Dv]. initial_state [B, H, state]: absent means zero. final_state [B, H, state]:
// absent means not wanted; it may be the tensor that initial_state is (decoding in place). saved:
// made by NewLinearAttentionSaved for this problem, or LinearAttentionSaved{} when no backward pass
// follows. kInvalidArgument, naming the operand, on a wrong shape, type or device; else as
// Supports.
absl::Status LinearAttentionForward(Stream& stream, const LinearAttentionProblem& problem,
                                    const LinearAttentionInputs& inputs,
                                    const Tensor& initial_state, Tensor& o, Tensor& final_state,
                                    LinearAttentionSaved& saved);

// The gradients of LinearAttentionForward, given its result o, d_o and, when the final state was
// used, d_final_state [B, H, state] (absent: zero; its last element, that of m, is not read).
// Overwrites d_q, d_k, d_v (shaped as q, k, v) and d_initial_state [B, H, state] (absent: not
// wanted; may be the tensor that d_final_state is). Of `saved` nothing is changed.
absl::Status LinearAttentionBackward(Stream& stream, const LinearAttentionProblem& problem,
                                     const LinearAttentionInputs& inputs, const Tensor& o,
                                     const LinearAttentionSaved& saved, const Tensor& d_o,
                                     const Tensor& d_final_state, Tensor& d_q, Tensor& d_k,
                                     Tensor& d_v, Tensor& d_initial_state);

// Takes the tokens back out of the state: what LinearAttentionForward made final_state of becomes
// the initial_state again, up to the rounding of the sums. q may be absent. kInvalidArgument when
// features are exponential (one large key leaves nothing of what was there before) or when the
// problem is not causal.
absl::Status LinearAttentionUndo(Stream& stream, const LinearAttentionProblem& problem,
                                 const LinearAttentionInputs& inputs, Tensor& state);

}  // namespace weft::kernels
