// Exact even powers of dot products on CPU: the pairs of one block of tokens, in tiles, without a
// matrix of all pairs. Exact attention is one block of all tokens.
#pragma once

#include <cstdint>

#include "kernels/attention/cpu/head_rows.h"
#include "kernels/device/cpu/vector/vector_table.h"

namespace weft::kernels {

// Queries that are computed together, and keys that they meet at a time.
inline constexpr int64_t kNearQueries = 256;
inline constexpr int64_t kNearKeys = 128;

// One head's pairs: weights (scale * q_i . k_j)^(2^squarings). Rows of q and k have width W, rows
// of v width D. Query i belongs to key `offset` + i.
struct NearPairs {
  const VectorTable& vector;
  HeadRows q, k, v;
  const int32_t* valid;  // [S], 0: nobody sees the key; null: all are seen
  int64_t offset;
  bool causal;
  int squarings;
  float scale;
};

// Queries [first, first + count), at most kNearQueries of them, and keys [begin, end), all that the
// last of them may see.
struct NearRows {
  int64_t first;
  int64_t count;
  int64_t begin;
  int64_t end;
};

struct NearForwardSpace {
  // For rows of width `width` and values of width `dim`.
  NearForwardSpace(int64_t width, int64_t dim, Carver& carver)
      : q(carver.Take(kNearQueries * width)),
        k(carver.Take(kNearKeys * width)),
        v(carver.Take(kNearKeys * dim)),
        x(carver.Take(kNearQueries * kNearKeys)) {}

  float* q;  // scaled
  float* k;
  float* v;
  float* x;  // [queries, keys]: products, then weights
};

// num [count, D] += weights times values, den [count] += their sums.
void NearForward(const NearPairs& pairs, const NearRows& rows, const NearForwardSpace& space,
                 float* num, float* den);

struct NearBackwardSpace {
  NearBackwardSpace(int64_t width, int64_t dim, Carver& carver)
      : forward(width, dim, carver), d_x(carver.Take(kNearQueries * kNearKeys)) {}

  NearForwardSpace forward;
  float* d_x;  // [queries, keys]: gradients of weights, then of products
};

// d_num [count, D], d_den [count] are gradients of num and den. d_q [count, W] is overwritten;
// d_k [., W] and d_v [., D], whose first rows are those of key `begin`, are added to.
void NearBackward(const NearPairs& pairs, const NearRows& rows, const NearBackwardSpace& space,
                  const float* d_num, const float* d_den, float* d_q, float* d_k, float* d_v);

}  // namespace weft::kernels
