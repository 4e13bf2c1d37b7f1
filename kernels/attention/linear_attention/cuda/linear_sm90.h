// Linear attention on Hopper, bf16: keys as wide as values, 64 or 128, features without a
// projection.
//
// A chunk is 64 tokens. With F = f(Q), G = f(K) of a chunk, R, z the state before it, dR, dz the
// gradient of the state after it, N = dO / den, u = -(dO . O) / den:
//
//   sums      (segment)           K, V -> what the segment adds to R, z;  Q, dO, N, u -> to dR, dz
//   outputs   (segment), serial   A = tril(F G^T), O = (A V + F R) / den, R += G^T V
//   queries   (segment), serial   dF = tril(N V^T + u 1^T) G + N R^T + u z^T, R as above
//   keys      (segment), serial, from the end
//                                 dG = tril(...)^T F + V dR^T + 1 dz^T, dV = A^T N + G dR,
//                                 dR += F^T N
//
// Segments are as long as fills the machine; the states between them are those of the portable
// passes. A block takes a segment of a head, a warpgroup 64 columns of every result and 64 features
// of the state, which stays in its accumulators; a bf16 copy in shared memory is the operand of
// products. Features exist in shared memory only.
#pragma once

#include <cuda_bf16.h>

#include "kernels/attention/features/cuda/features_cuda.h"
#include "kernels/attention/linear_attention/cuda/portable_passes.h"

namespace weft::kernels::sm90 {

inline constexpr int kLinearChunk = 64;

struct LinearSm90Shape {
  int batch = 1;
  int tokens = 0;
  int heads = 1;
  int width = 0;     // of values
  int features = 0;  // here as many; of a projection, kProjectedFeatures (projected_sm90.h)
  int segments = 1;
  int segment_chunks = 1;

  [[nodiscard]] constexpr int Chunks() const { return (tokens + kLinearChunk - 1) / kLinearChunk; }
  [[nodiscard]] constexpr int64_t StateSize() const { return int64_t{features} * (width + 1) + 1; }
};

inline constexpr int kMultiprocessors = 132;  // of an H100 or H200

// Functions of the problem alone: bits depend on them. `width` is covered. Segments are as long as
// gives as many blocks as run at a time; InSegments makes of each head about `wanted`.
LinearSm90Shape LinearSm90ShapeOf(int batch, int tokens, int heads, int width);
LinearSm90Shape InSegments(LinearSm90Shape shape, int wanted);

// Tensors that a kernel does not have are null. Tokens that `valid` [B, T] leaves out have no
// features as keys. `states` [B, H, segments, state]: before the segments.
struct LinearSm90Forward {
  LinearSm90Shape shape;
  CudaFeatureMap map;
  const __nv_bfloat16* q = nullptr;
  const __nv_bfloat16* k = nullptr;
  const __nv_bfloat16* v = nullptr;
  const int32_t* valid = nullptr;
  const float* states = nullptr;
  bool lift_small = false;
  float guard_epsilon = 0;
  __nv_bfloat16* o = nullptr;
  float* denominators = nullptr;  // null: not wanted
};
cudaError_t LinearForward(const LinearSm90Forward& args, cudaStream_t stream);

// parts [B, H, segments, state] of segments first ... first + count - 1: sum of f(x) (y, 1) over
// the tokens; with `inverse` and `slopes` [B, H, T], sum of f(x) (inverse y, slopes).
struct LinearSm90Sums {
  LinearSm90Shape shape;
  CudaFeatureMap map;
  const __nv_bfloat16* x = nullptr;
  const __nv_bfloat16* y = nullptr;
  const int32_t* valid = nullptr;
  const float* inverse = nullptr;
  const float* slopes = nullptr;
  int first = 0;
  int count = 0;
  float* parts = nullptr;
};
cudaError_t LinearSums(const LinearSm90Sums& args, cudaStream_t stream);

// inverse = 1 / den (0 for 0) and slopes = -(dO . O) / den, [B, H, T]. With `fading`, also
// faded_inverse and faded_slopes: the same times fading.
struct LinearSm90Slopes {
  LinearSm90Shape shape;
  const __nv_bfloat16* o = nullptr;
  const __nv_bfloat16* d_o = nullptr;
  const float* denominators = nullptr;
  const float* fading = nullptr;
  float* inverse = nullptr;
  float* slopes = nullptr;
  float* faded_inverse = nullptr;
  float* faded_slopes = nullptr;
};
cudaError_t LinearRowSlopes(const LinearSm90Slopes& args, cudaStream_t stream);

struct LinearSm90Backward {
  LinearSm90Shape shape;
  CudaFeatureMap map;
  const __nv_bfloat16* q = nullptr;
  const __nv_bfloat16* k = nullptr;
  const __nv_bfloat16* v = nullptr;
  const __nv_bfloat16* d_o = nullptr;
  const int32_t* valid = nullptr;
  const float* inverse = nullptr;
  const float* slopes = nullptr;
  const float* states = nullptr;     // before the segments
  const float* gradients = nullptr;  // of the states after the segments; null: zeros
  __nv_bfloat16* d_q = nullptr;
  __nv_bfloat16* d_k = nullptr;
  __nv_bfloat16* d_v = nullptr;
};
cudaError_t LinearQueryGradients(const LinearSm90Backward& args, cudaStream_t stream);
cudaError_t LinearKeyGradients(const LinearSm90Backward& args, cudaStream_t stream);

}  // namespace weft::kernels::sm90
