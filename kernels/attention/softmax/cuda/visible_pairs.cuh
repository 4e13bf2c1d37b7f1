// Which pairs of a query and a key see each other, as kernels on a GPU ask, and powers of logits.
#pragma once

#include "kernels/attention/softmax/cuda/softmax_cuda.h"

namespace weft::kernels::softmax_tiles {

constexpr float kLog2E = 1.4426950408889634F;
constexpr float kLn2 = 0.6931471805599453F;

// 2^x, with a relative error of 2^-22; the smallest are 0.
__device__ inline float PowerOfTwo(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

struct Range {
  int begin;
  int end;
};

// The keys that query i sees; as VisibleKeys.
__device__ inline Range VisibleKeys(const SoftmaxCudaProblem& p, int i) {
  const int position = i + p.keys - p.queries;
  Range range{0, p.keys};
  if (p.causal) range.end = min(range.end, position + 1);
  if (p.window > 0) {
    range.begin = max(0, position - p.window + 1);
    range.end = min(range.end, position + p.window);
  }
  return range;
}

// How far ahead of its query, key - query, a key may lie to be seen, if there is one.
struct Band {
  int least;
  int most;
};
inline constexpr int kFarAhead = 1 << 30;
__device__ inline Band VisibleBand(const SoftmaxCudaProblem& p) {
  const int offset = p.keys - p.queries;
  Band band{-kFarAhead / 2, kFarAhead / 2};
  if (p.window > 0) band = {offset - p.window + 1, offset + p.window - 1};
  if (p.causal) band.most = min(band.most, offset);
  return band;
}

// The keys that any of the queries [first, last) sees, from the beginning of a tile on.
__device__ inline Range KeysOfQueries(const SoftmaxCudaProblem& p, int first, int last, int tile) {
  return {VisibleKeys(p, first).begin / tile * tile, VisibleKeys(p, last - 1).end};
}

// The queries that see any of the keys [first, last), and perhaps a few more.
__device__ inline Range QueriesOfKeys(const SoftmaxCudaProblem& p, int first, int last) {
  const int offset = p.keys - p.queries;
  Range range{0, p.queries};
  if (p.causal) {
    range.begin = max(0, first - offset);
  } else if (p.window > 0) {
    range.begin = max(0, first - p.window + 1 - offset);
  }
  if (p.window > 0) range.end = min(range.end, last - 1 + p.window - offset);
  return range;
}

// Whether all queries [q0, q1) see all keys [k0, k1), as far as there are any.
__device__ inline bool AllVisible(const SoftmaxCudaProblem& p, int q0, int q1, int k0, int k1) {
  if (p.valid != nullptr || q1 > p.queries || k1 > p.keys) return false;
  return VisibleKeys(p, q1 - 1).begin <= k0 && VisibleKeys(p, q0).end >= k1;
}

}  // namespace weft::kernels::softmax_tiles
