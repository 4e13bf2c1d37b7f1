// Linear attention on Hopper with the exponential features of a projection of 256 rows, bf16: keys
// and values 64 or 128 wide. The formulas are those of linear_sm90.h, with levels
// (linear_attention.h) and with features that exist in memory: they are made once for all passes,
// and the passes give their gradients.
//
//   features    rows of x, W -> f and, of keys, levels;  x, W, df -> dx
//   sums        (segment, half of the features)           as there, forward and from the end
//   results     (segment, 64 of the values), serial       O = (A V + F R) / den;  dV, from the end
//   gradients   (segment, half of the features), serial   dF;  dG, from the end
//
// `results` and `gradients` run in both directions: backwards, keys and queries change places, and
// the state is that of gradients. States are measured in exp(m) of the chunk they stand before.
#pragma once

#include "kernels/attention/linear_attention/cuda/linear_sm90.h"

namespace weft::kernels::sm90 {

inline constexpr int kProjectedFeatures = 256;

// `width` of values is covered.
LinearSm90Shape ProjectedShapeOf(int batch, int tokens, int heads, int width);

// Rows [B, T, H, dim] of queries or keys, fewer than kMostProjectedRows, dim 64 or 128, and W [256,
// dim].
inline constexpr int64_t kMostProjectedRows = int64_t{1} << 30;
struct ProjectedRows {
  int batch = 1;
  int tokens = 0;
  int heads = 1;
  int dim = 0;
  float scale = 1;
  float floor = 0;
  const __nv_bfloat16* x = nullptr;
  const __nv_bfloat16* projection = nullptr;
  const int32_t* valid = nullptr;  // [B, T]: what has no features; null: all have

  [[nodiscard]] constexpr int Rows() const { return batch * tokens * heads; }
};
// f [B, T, H, 256], levels [B, H, T] (null: not wanted), -infinity where there are no features.
cudaError_t ProjectedFeatures(const ProjectedRows& rows, __nv_bfloat16* f, float* levels,
                              cudaStream_t stream);
// d_f, as f, to d_x, as x.
cudaError_t ProjectedFeatureGradients(const ProjectedRows& rows, const __nv_bfloat16* d_f,
                                      __nv_bfloat16* d_x, cudaStream_t stream);

// What tokens count: arrays [B, H, T], of which each pass reads some.
enum ProjectedFactor : int {
  kKeyLevel,      // of the token as a key
  kRunningLevel,  // m_i of the token as a query
  kInverse,       // of queries: what dO and
  kSlope,         // one count in the gradients of pairs
  kRow,           // what the state counts in the token's result, and
  kRowSum,        // what its z does
  kToken,         // what the token counts in the state, and
  kTokenSum,      // in its z
  kFactors
};
struct ProjectedPass {
  LinearSm90Shape shape;
  bool backwards = false;
  const float* chunk_levels = nullptr;  // [B, H, chunks + 1]: before the chunks, and at the end
  const float* factors[kFactors] = {};
};

// parts [B, H, segments, state] of segments first ... first + count - 1.
struct ProjectedSums {
  ProjectedPass pass;
  const __nv_bfloat16* f = nullptr;  // features
  const __nv_bfloat16* y = nullptr;  // values, or dO
  int first = 0;
  int count = 0;
  float* parts = nullptr;
};
cudaError_t ProjectedSegmentSums(const ProjectedSums& args, cudaStream_t stream);

struct ProjectedResults {
  ProjectedPass pass;
  const __nv_bfloat16* rows = nullptr;     // features of what results are of: F, backwards G
  const __nv_bfloat16* columns = nullptr;  // of what they are sums over: G, backwards F
  const __nv_bfloat16* y = nullptr;        // of the columns: V, backwards dO
  const float* states = nullptr;           // before the segments, backwards after; null: zeros
  bool lift_small = false;
  float guard_epsilon = 0;
  __nv_bfloat16* results = nullptr;  // O, backwards dV
  float* denominators = nullptr;     // null: not wanted
};
cudaError_t ProjectedAttend(const ProjectedResults& args, cudaStream_t stream);

struct ProjectedGradients {
  ProjectedPass pass;
  const __nv_bfloat16* x = nullptr;         // of the rows: dO, backwards V
  const __nv_bfloat16* y = nullptr;         // of the columns: V, backwards dO
  const __nv_bfloat16* features = nullptr;  // of the columns: G, backwards F
  const float* states = nullptr;
  __nv_bfloat16* gradients = nullptr;  // of the features of the rows: dF, backwards dG
};
cudaError_t ProjectedDifferentiate(const ProjectedGradients& args, cudaStream_t stream);

}  // namespace weft::kernels::sm90
