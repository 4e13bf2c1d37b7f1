// The passes of linear attention that run on every GPU (tile_product.cuh). A sequence is cut into
// segments of kSegmentTokens; the pairs of tokens of a segment are weighed one by one, what came
// before it is a state:
//
//   features    q, k -> q', k' (features/cuda)
//   levels      of exponential features: m_i, and what keys and states count in it
//   sums        what each segment adds to the state, then the states before the segments
//   outputs     the rest
//
// and backward the same from the end, with the gradient of the state. The formulas are those of
// cpu/linear_attention_forward.cc and cpu/linear_attention_backward.cc. Private to
// kernels/attention; included by .cu files.
#pragma once

#include <cstdint>

#include "kernels/device/cuda/launch.h"

namespace weft::kernels {

inline constexpr int kSegmentTokens = 256;  // a multiple of kTile

// [B, T, H, Dk], [B, T, H, Dv], M features; state = M (Dv + 1) + 1.
struct LinearCudaShape {
  int batch = 1;
  int tokens = 0;
  int heads = 1;
  int key_dim = 0;
  int value_dim = 0;
  int features = 0;
  bool causal = true;
  int segment_tokens = kSegmentTokens;

  [[nodiscard]] constexpr int AllHeads() const { return batch * heads; }
  [[nodiscard]] constexpr int Segments() const {
    return tokens == 0 ? 1 : (tokens + segment_tokens - 1) / segment_tokens;
  }
  // Whose states are kept: without an order there is only the whole.
  [[nodiscard]] constexpr int States() const { return causal ? Segments() : 1; }
  [[nodiscard]] constexpr int64_t StateSize() const {
    return int64_t{features} * (value_dim + 1) + 1;
  }
};

// What exponential features are measured in, fp32; all null of other features.
struct LinearLevels {
  float* key = nullptr;       // [B, H, T]: of the keys
  float* running = nullptr;   // [B, H, T]: m_i
  float* segments = nullptr;  // [B, H, segments + 1]: m before each segment, and at the end
  float* weight = nullptr;    // [B, H, T]: of a key in the state after its segment
  float* fading = nullptr;    // [B, H, T]: of the state before the segment, to a query
};
// `start` [B, H, ..., state] holds states `stride` elements apart for each head, of which the first
// says where levels begin; null: nowhere. `running` is written unless it is `known`.
cudaError_t LaunchLevels(const CudaLaunch& on, const LinearCudaShape& shape, const float* start,
                         int64_t stride, bool known, const LinearLevels& levels);

// parts [B, H, segments, state]: sum over the tokens of each segment of f (weights y, sum_weights)
// with f [B, T, H, M] and y [B, T, H, Dv] of the compute type; null weights [B, H, T] are ones.
struct SegmentSumsArgs {
  LinearCudaShape shape;
  const float* f = nullptr;
  const void* y = nullptr;
  const float* weights = nullptr;
  const float* sum_weights = nullptr;
  float* parts = nullptr;
};
cudaError_t LaunchSegmentSums(const CudaLaunch& on, const SegmentSumsArgs& args);

// In place: parts become the states before the segments. `final` may be `initial`; null: zero, and
// not wanted. Where nothing has an order, the sum of all parts goes to `total` [B, H, state].
struct StatesArgs {
  LinearCudaShape shape;
  const float* levels = nullptr;  // before the segments and at the end, of LaunchLevels
  int level_tokens = 0;           // from one level to the next, if a segment has several; else 0
  const float* initial = nullptr;
  float* parts = nullptr;
  float* final = nullptr;
};
cudaError_t LaunchStates(const CudaLaunch& on, const StatesArgs& args);
// In place: parts, which the queries of a segment add to the gradient of the state before it,
// become the gradients of the states after the segments. initial: that of the last state, final:
// that of the first.
cudaError_t LaunchStateGradients(const CudaLaunch& on, const StatesArgs& args);
// The level of the whole is that of the last segment; null levels: none.
cudaError_t LaunchTotal(const CudaLaunch& on, const LinearCudaShape& shape, const float* levels,
                        const float* parts, float* total);
// state -= sum of the parts.
cudaError_t LaunchSubtract(const CudaLaunch& on, const LinearCudaShape& shape, const float* parts,
                           float* state);

struct LinearOutputsArgs {
  LinearCudaShape shape;
  LinearLevels levels;
  const float* q = nullptr;  // features
  const float* k = nullptr;
  const void* v = nullptr;
  const float* states = nullptr;  // before the segments, or of the whole
  bool lift_small = false;        // DenominatorGuard::kLiftSmall
  float guard_epsilon = 0;
  void* o = nullptr;
  float* denominators = nullptr;  // null: not wanted
};
cudaError_t LaunchLinearOutputs(const CudaLaunch& on, const LinearOutputsArgs& args);

// The gradients of numerators are `inverse` times d_o, those of denominators `slopes`; faded, the
// same times levels.fading. All [B, H, T].
struct LinearSlopes {
  float* inverse = nullptr;
  float* slopes = nullptr;
  float* faded_inverse = nullptr;
  float* faded_slopes = nullptr;
};
cudaError_t LaunchLinearSlopes(const CudaLaunch& on, const LinearCudaShape& shape, const void* o,
                               const void* d_o, const float* denominators, const float* fading,
                               const LinearSlopes& slopes);

struct LinearGradientsArgs {
  LinearCudaShape shape;
  LinearLevels levels;
  LinearSlopes slopes;
  const float* q = nullptr;  // features
  const float* k = nullptr;
  const void* v = nullptr;
  const void* d_o = nullptr;
  const float* states = nullptr;     // as before
  const float* gradients = nullptr;  // of the states after the segments, or of the whole
};
// d_f [B, T, H, M], fp32, of the features of queries or keys.
cudaError_t LaunchQueryGradients(const CudaLaunch& on, const LinearGradientsArgs& args, float* d_f);
cudaError_t LaunchKeyGradients(const CudaLaunch& on, const LinearGradientsArgs& args, float* d_f);
cudaError_t LaunchValueGradients(const CudaLaunch& on, const LinearGradientsArgs& args, void* d_v);

}  // namespace weft::kernels
