// What the passes of linear attention with given features share. Private to
// linear_attention/cuda.
#pragma once

#include "kernels/attention/linear_attention/cuda/linear_sm90.cuh"
#include "kernels/attention/linear_attention/cuda/projected_sm90.h"

namespace weft::kernels::sm90 {

inline constexpr int kFeatureTiles = kProjectedFeatures / 64;
inline constexpr float kLog2e = 1.4426950408889634F;

// A segment of a head, whose chunks come in order or from the end.
struct ProjectedWork : LinearWork {
  __device__ ProjectedWork(const ProjectedPass& pass, int first_segment, int segments, int slices)
      : LinearWork(pass.shape, first_segment, segments, slices),
        backwards(pass.backwards),
        levels(pass.chunk_levels + int64_t{index} * (pass.shape.Chunks() + 1)) {}

  [[nodiscard]] __device__ int ChunkOf(int n) const {
    return first_chunk + (backwards ? chunks - 1 - n : n);
  }
  [[nodiscard]] __device__ int TokenOf(int n) const { return ChunkOf(n) * kLinearChunk; }
  // What the state from before the n-th chunk counts after it.
  [[nodiscard]] __device__ float FadingOf(int n) const {
    const float before = levels[ChunkOf(n)];
    const float after = levels[ChunkOf(n) + 1];
    if (before == after) return 1;
    return expf(before - (after == -INFINITY ? 0.0F : after));
  }

  bool backwards;
  const float* levels;
};

// Factors of the tokens of two chunks in turn, in shared memory. Each of 256 threads brings two.
class FactorTable {
 public:
  static constexpr int kBytes = 2 * kFactors * kLinearChunk * 4;
  __device__ FactorTable(const ProjectedPass& pass, int64_t row, float* table)
      : tokens_(pass.shape.tokens), table_(table) {
#pragma unroll
    for (int i = 0; i < kFactors; ++i) {
      if (FirstFactor() == i / 2 * 2) arrays_[i % 2] = pass.factors[i];
    }
#pragma unroll
    for (const float*& array : arrays_) array = array == nullptr ? nullptr : array + row;
  }

  // Of the chunk that begins with `token`, on the way; nothing of tokens that are not there.
  __device__ void Fetch(int token) {
    token += Token();
#pragma unroll
    for (int i = 0; i < 2; ++i) next_[i] = ValueOf(arrays_[i], FirstFactor() + i, token);
  }
  // What was fetched, as the n-th chunk's.
  __device__ void Publish(int n) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      table_[(n % 2 * kFactors + FirstFactor() + i) * kLinearChunk + Token()] = next_[i];
    }
  }
  [[nodiscard]] __device__ const float* Of(int n, ProjectedFactor factor) const {
    return table_ + (n % 2 * kFactors + factor) * kLinearChunk;
  }

 private:
  __device__ static int Token() { return static_cast<int>(threadIdx.x) % kLinearChunk; }
  __device__ static int FirstFactor() { return static_cast<int>(threadIdx.x) / kLinearChunk * 2; }
  // Levels in units of log 2. Tokens that are not there are keys of level -infinity and queries of
  // +infinity: exp makes both vanish. A query that has seen nothing is measured from zero.
  [[nodiscard]] __device__ float ValueOf(const float* array, int factor, int token) const {
    const bool there = 0 <= token && token < tokens_ && array != nullptr;
    const float value = there ? array[token] : 0.0F;
    if (factor == kKeyLevel) return there ? value * kLog2e : -INFINITY;
    if (factor == kRunningLevel) {
      if (!there) return INFINITY;
      return value == -INFINITY ? 0.0F : value * kLog2e;
    }
    return value;
  }

  int tokens_;
  float* table_;
  const float* arrays_[2] = {};
  float next_[2] = {};
};

// 2^x; what is below 2^-126 vanishes.
__device__ inline float PowerOfTwo(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// exp(level of the key - m of the query) at the pairs of a thread, one of which is the row:
// body(i, column, factor) for its 32 sums. Forwards a row is a query and sees the columns up to
// itself, backwards a key that is seen from itself on; the factor of others is zero.
template <bool kBackwards, typename Body>
__device__ inline void ForPairs(const FactorTable& table, int n, const Place& at,
                                const Body& body) {
  const float* const of_rows = table.Of(n, kBackwards ? kKeyLevel : kRunningLevel);
  const float* const of_columns = table.Of(n, kBackwards ? kRunningLevel : kKeyLevel) + at.column;
  const float rows[2] = {of_rows[at.row], of_rows[at.row + 8]};
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float2 columns = *reinterpret_cast<const float2*>(of_columns + 8 * j);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float of_column = i % 2 == 0 ? columns.x : columns.y;
      const float level = kBackwards ? rows[i / 2] - of_column : of_column - rows[i / 2];
      const int after = 8 * j + i % 2 - i / 2 * 8 + at.column - at.row;  // column less row
      const bool seen = kBackwards ? after >= 0 : after <= 0;
      body(4 * j + i, 8 * j + at.column + i % 2, PowerOfTwo(seen ? level : -INFINITY));
    }
  }
}

}  // namespace weft::kernels::sm90
