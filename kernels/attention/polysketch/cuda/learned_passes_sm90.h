// The passes of learned sketches on Hopper and what lies between them in memory.
//
// The unit of work is one stage of one tower, x [rows, n] -> y [rows, r]: its weights stay in
// shared memory and hidden units in registers. The norm's parameters are folded into the weights,
//
//   W' = expand diag(norm_weight)    b = expand norm_bias    y = contract gelu(W' x^ + b)
//
// where x^ is x with mean 0 and variance 1 in each row. The mean of a row of W' multiplies the mean
// of x^ and is left out: the gradient of x^ then has mean 0 as well. A stage's gradient needs only
//
//   G = sum of da x^^T    s = sum of da    over rows, da the gradient of gelu's argument:
//   d_expand = G diag(norm_weight) + s norm_bias^T
//   d_norm_weight = columns' sums of expand o G    d_norm_bias = expand^T s
//
//   forward:  for each stage: prepare, outputs of both towers; phi
//   backward: where nothing was kept, the same as far as y; gradients of y; for each stage, the
//   last
//             one first: prepare; for each part of hidden units: gradients, sum; parameters
//
// No pass computes x^. Of da' = da / deviation (of the row), W'^T da' is the gradient of x but for
// what is along x^, and G the sum of da' x^T less its rows' means: the mean of a row of x
// multiplies all columns of x alike.
//
// A block of the gradient pass has a fixed set of rows. It keeps its sums G, contract's and s in
// registers until the end; the next kernel adds those of all blocks, in order.
#pragma once

#include <cudaTypedefs.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace weft::kernels::sm90 {

struct LearnedSketchCudaShape {
  int rows = 0;
  int inputs = 128;       // h
  int sketch = 32;        // r
  float epsilon = 1e-5F;  // of the norms
  int multiprocessors = 1;
};

inline constexpr int kSketchTileRows = 64;

constexpr int HiddenOf(int sketch) { return 8 * sketch; }
constexpr int TilesOf(int columns) { return (columns + 63) / 64; }
// Hidden units whose sums fit into the registers of one block.
constexpr int HiddenPart(int inputs, int sketch) {
  return inputs == 128 && sketch == 64 ? 128 : 256;
}

// What stays in shared memory of a tower's stage: W' as tiles [n / 64] of [hidden, 64] and half of
// contract as tiles [hidden / 64] of [r, 64], as wgmma reads them (hopper.cuh); behind them b in
// fp32. Half, because kernels compute twice gelu.
constexpr int ExpandBytes(int inputs, int sketch) {
  return TilesOf(inputs) * HiddenOf(sketch) * 128;
}
constexpr int ContractBytes(int sketch) { return HiddenOf(sketch) / 64 * sketch * 128; }
constexpr int TowerBytes(int inputs, int sketch) {
  return ExpandBytes(inputs, sketch) + ContractBytes(sketch) + HiddenOf(sketch) * 4;
}

// One block's sums for one part: G [part, n] with its rows' means, twice those of contract [part,
// r], s [part].
constexpr int BlockSums(int inputs, int sketch) {
  return HiddenPart(inputs, sketch) * (inputs + sketch + 1);
}

// Parameters of one stage, both towers; learned_sketch.h has the shapes.
struct SketchStageWeights {
  const __nv_bfloat16* norm_weight = nullptr;
  const __nv_bfloat16* norm_bias = nullptr;
  const __nv_bfloat16* expand = nullptr;
  const __nv_bfloat16* contract = nullptr;
};
struct SketchStageGradients {
  float* norm_weight = nullptr;
  float* norm_bias = nullptr;
  float* expand = nullptr;
  float* contract = nullptr;
};

// ---- Weights of both towers into `towers`, [2] of TowerBytes

cudaError_t LaunchSketchWeights(int inputs, int sketch, const SketchStageWeights& weights,
                                uint8_t* towers, cudaStream_t stream);

// ---- Outputs

// What the norm found, for each 64 rows: 64 times 1 / standard deviation, 64 means. Both are zero
// of rows that do not exist.
inline constexpr int kSketchStatistics = 2 * kSketchTileRows;  // floats
__host__ __device__ constexpr int64_t SketchStatisticsBytes(int rows) {
  return int64_t{(rows + kSketchTileRows - 1) / kSketchTileRows} * kSketchStatistics * 4;
}

struct SketchOutputsParams {
  CUtensorMap x;  // [1 or 2, rows, 1, n]
  const uint8_t* towers;
  __nv_bfloat16* y;   // [2, rows, r]
  float* statistics;  // [1 or 2] of SketchStatisticsBytes
  int rows;
  bool own_x;  // x has a part for each tower
  float epsilon;
};
cudaError_t LaunchSketchOutputs(int inputs, int sketch, int multiprocessors,
                                const SketchOutputsParams& params, cudaStream_t stream);

// ---- Gradients

struct SketchGradientsParams {
  CUtensorMap x;            // [1 or 2, rows, 1, n]
  CUtensorMap d_y;          // [2, rows, 1, r]
  CUtensorMap d_x;          // as x; overwritten or added to
  const float* statistics;  // of x, as the outputs' pass left them
  const uint8_t* towers;
  float* sums;  // [towers of the call, blocks of a tower] of BlockSums
  int rows;
  int first_tower;
  int tower_count;  // 2 only where x has a part for each tower
  int part;
  bool own_x;
  bool add;
};
// Blocks that share the rows of one tower.
int SketchGradientBlocks(const SketchGradientsParams& params, int multiprocessors);
cudaError_t LaunchSketchGradients(int inputs, int sketch, int multiprocessors,
                                  const SketchGradientsParams& params, cudaStream_t stream);

// ---- Sums

struct SketchSumsParams {
  const float* sums;  // of the gradient pass just before
  int blocks;         // of a tower
  int first_tower;
  int tower_count;
  int part;
  float* expand;      // G with its rows' means [2, hidden, n], overwritten in this part
  float* slopes;      // s [2, hidden], likewise
  float* d_contract;  // [2, r, hidden], added to
};
cudaError_t LaunchSketchSums(int inputs, int sketch, const SketchSumsParams& params,
                             cudaStream_t stream);

// The other gradients of a stage from G and s; added to.
cudaError_t LaunchSketchParameters(int inputs, int sketch, const SketchStageWeights& weights,
                                   const float* expand, const float* slopes,
                                   const SketchStageGradients& gradients, cudaStream_t stream);

}  // namespace weft::kernels::sm90
