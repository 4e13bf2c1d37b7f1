// SBM attention on a GPU: launchers on plain addresses. Private to kernels/attention/sbm/cuda.
//
// B batch, T queries, S keys, H heads, D width of a head, K clusters as in sbm.h. A "head" below
// counts [B, H].
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/attention/cuda/dropout_place.h"
#include "kernels/device/cuda/launch.h"

namespace weft::kernels::sbm {

struct Sizes {
  int batch = 1, queries = 0, keys = 0, heads = 1, dim = 0, clusters = 1;
  bool causal = false;

  [[nodiscard]] int all_heads() const { return batch * heads; }
};

// ---- Drawing (graph_draw.cu, graph_sums.cu)

// Draws of one purpose: the generator's counter but for position and ordinal, as in DropoutPlace.
struct DrawPlace {
  uint32_t counter2 = 0;  // of head 0 of sequence 0
  uint32_t counter3 = 0;
  uint32_t first_ordinal = 0;
};

struct GraphArgs {
  enum class Law : int { kPoisson, kExact, kDense };

  Sizes sizes;
  Law law = Law::kPoisson;
  double exploration = 0.0;
  uint64_t seed = 0;
  DrawPlace counts, edges, thinning, dense;
  const float* query = nullptr;     // [B, H, T, K]: memberships
  const float* key = nullptr;       // [B, H, S, K]
  const float* affinity = nullptr;  // [H, K, K]
  const int32_t* valid = nullptr;   // [B, S]; null: all
  uint32_t* bits = nullptr;         // [B, H, T, 2 ceil(S / 64)]
  uint32_t* copies = nullptr;       // [B, H, T, ceil(S / 4)]; null: not counted
  float* density = nullptr;         // [B, H]
  void* scratch = nullptr;          // GraphScratchBytes
};
// For this many heads at a time.
int64_t GraphScratchBytes(const Sizes& sizes, int heads_at_once);
cudaError_t DrawGraph(const CudaLaunch& on, const GraphArgs& args, int heads_at_once);

// ---- Attention along the graph (pair_lists.cu, pairs_forward.cu, pairs_gradients.cu)

// The linked pairs, for blocks of 64 rows of one side: which rows of the other side they meet.
struct PairLists {
  uint64_t* words;  // [B, H, others, blocks]: bit m says that row 64 block + m meets this one
  int32_t* others;  // [B, H, blocks, all others]: those that meet any row of the block, ascending
  int32_t* counts;  // [B, H, blocks]: how many these are
};
// Lists for blocks of queries need words of their own: the graph's are those of blocks of keys.
int64_t QueryListBytes(const Sizes& sizes);
int64_t KeyListBytes(const Sizes& sizes);
cudaError_t ListByQueries(const CudaLaunch& on, const Sizes& sizes, const uint32_t* bits,
                          void* scratch, PairLists* lists);
cudaError_t ListByKeys(const CudaLaunch& on, const Sizes& sizes, const uint32_t* bits,
                       void* scratch, PairLists* lists);

struct PairArgs {
  Sizes sizes;
  float scale = 1.0F;
  PairLists lists;
  const uint8_t* copies = nullptr;  // [B, H, T, copies_step]; null: every edge counts once
  int64_t copies_step = 0;
  DropoutPlace dropout;
  const void* q = nullptr;  // [B, T, H, D]
  const void* k = nullptr;  // [B, S, H, D]
  const void* v = nullptr;  // [B, S, H, D]
};
cudaError_t Forward(const CudaLaunch& on, const PairArgs& args, void* o, float* lse);

struct GradientArgs {
  PairArgs pairs;  // lists of the blocks whose gradients are made
  const void* d_o = nullptr;
  const float* lse = nullptr;           // [B, H, T]
  const float* mean = nullptr;          // [B, H, T]: d_o . o
  const float* density_part = nullptr;  // [B]: of the gradient of p on every edge
  bool logit = false;                   // the straight-through estimate kLogit
  float clip = 1.0F;
  // The other side's memberships, of the compute type, and what they give this side: Gamma z or
  // Gamma^T y.
  const void* memberships = nullptr;  // [B, H, others, K]
  float* sums = nullptr;              // [B, H, own, K]
};
cudaError_t QueryGradients(const CudaLaunch& on, const GradientArgs& args, void* d_q);
cudaError_t KeyGradients(const CudaLaunch& on, const GradientArgs& args, void* d_k, void* d_v);
// `count` memberships in bf16.
cudaError_t RoundMemberships(const CudaLaunch& on, int64_t count, const float* memberships,
                             void* rounded);
// mean and density_part.
cudaError_t PrepareGradients(const CudaLaunch& on, const Sizes& sizes, const void* o,
                             const void* d_o, const int32_t* valid, float density_gradient,
                             float* mean, float* density_part);

// ---- Memberships and affinity (memberships.cu). Activations have the compute type.

// logits [B, T, H, K] -> memberships [B, H, T, K], their sigmoids.
cudaError_t Sigmoids(const CudaLaunch& on, const Sizes& sizes, const float* logits,
                     float* memberships);
// The gradient of the logits, [B, T, H, K] of the compute type.
cudaError_t SigmoidGradients(const CudaLaunch& on, const Sizes& sizes, const float* memberships,
                             const float* d_memberships, void* d_logits);
// clusters [H, K, D] -> affinity [H, K, K].
cudaError_t Affinity(const CudaLaunch& on, const Sizes& sizes, const void* clusters,
                     float* affinity);
// to [B, H, count, K] = sums times the affinity [H, K, K], or times its transpose.
cudaError_t TimesAffinity(const CudaLaunch& on, const Sizes& sizes, int count, bool transposed,
                          const float* sums, const float* affinity, float* to);
// d_affinity [H, K, K] = the sum of parts [B, H, K, K] over the sequences.
cudaError_t SumSequences(const CudaLaunch& on, const Sizes& sizes, const float* parts,
                         float* d_affinity);
// Added to d_clusters; `means` [H] is working space.
cudaError_t AffinityGradient(const CudaLaunch& on, const Sizes& sizes, const void* clusters,
                             const float* affinity, const float* d_affinity, float* means,
                             float* d_clusters);

}  // namespace weft::kernels::sbm
